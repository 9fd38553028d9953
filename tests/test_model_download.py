"""``tailor fetch-model`` and ``tailor models``, against a real HTTPS server on this machine."""

import fcntl
import hashlib
import io
import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from weights_server import (
    LAST_MODIFIED,
    Answer,
    WeightsServer,
    connect_proxy,
    serve_weights,
    write_certificate,
)

import tailor_assets.commands.models as models_command
from resources.model_download import Patience, fetch_weights
from resources.model_registry import ModelEntry
from resources.partial_file import Origin, hold_partial_file, notes_of, part_of
from tailor_assets.cli import main
from tailor_assets.compute.errors import PermanentProblem

SIZE = 1_500_001
QUICK = Patience(tries=3, first_wait_s=0.01, longest_wait_s=2.0, silence_s=5.0)
PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch: pytest.MonkeyPatch, certificate: Path, tmp_path: Path) -> None:
    for name in (*PROXIES, "TAILOR_MODELS", "TAILOR_SEGMENTER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("TAILOR_HOME", str(tmp_path / "home"))


@pytest.fixture
def server(certificate: Path) -> Iterator[WeightsServer]:
    with serve_weights(random.Random(5).randbytes(SIZE), certificate) as running:
        yield running


def entry_for(server: WeightsServer, **changes: object) -> ModelEntry:
    fields: dict[str, object] = {
        "name": "ours",
        "kind": "sam2",
        "config": "ours.yaml",
        "file": "ours.pt",
        "size_bytes": len(server.body),
        "sha256": hashlib.sha256(server.body).hexdigest(),
        "url": server.url,
    }
    return ModelEntry.model_validate(fields | changes)


def write_models(home: Path, entry: ModelEntry) -> None:
    """``entry`` as the user's own models.toml."""
    home.mkdir(parents=True, exist_ok=True)
    fields = entry.model_dump(exclude={"name"}, exclude_none=True)
    lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    (home / "models.toml").write_text(f'["{entry.name}"]\n' + "\n".join(lines) + "\n")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "home" / "models" / "ours.pt"


class Fetch:
    """``fetch_weights`` of one entry, and what it said."""

    def __init__(self, server: WeightsServer, place: Path) -> None:
        self.server, self.place = server, place
        self.said: list[str] = []
        self.seen: list[tuple[int, int | None]] = []

    def __call__(self, patience: Patience = QUICK, **changes: object) -> bool:
        return fetch_weights(
            entry_for(self.server, **changes),
            self.place,
            say=self.said.append,
            on_bytes=lambda done, total: self.seen.append((done, total)),
            patience=patience,
        )

    def problem(self, patience: Patience = QUICK, **changes: object) -> str:
        """The sentence with which it fails."""
        with pytest.raises(PermanentProblem) as problem:
            self(patience, **changes)
        sentence = str(problem.value)
        assert sentence.endswith(".")
        assert "\n" not in sentence
        return sentence

    def leave_part(self, size: int, wait: threading.Event | None = None) -> None:
        """Be interrupted for good after ``size`` bytes."""
        self.server.answers = [Answer(cut_after=size), Answer(status=404)]
        self.problem()
        assert part_of(self.place).stat().st_size == size
        self.server.requests.clear()
        self.said.clear()
        self.seen.clear()


@pytest.fixture
def fetch(server: WeightsServer, place: Path) -> Fetch:
    return Fetch(server, place)


def is_whole(fetch: Fetch) -> bool:
    """The file is there, right, and alone."""
    alone = [path.name for path in fetch.place.parent.iterdir()] == [fetch.place.name]
    return alone and fetch.place.read_bytes() == fetch.server.body


# One process


def test_weights_come_whole_and_alone_and_every_byte_is_counted(fetch: Fetch) -> None:
    assert fetch() is True
    assert is_whole(fetch)
    assert fetch.seen[-1] == (SIZE, SIZE)
    assert [done for done, _ in fetch.seen] == sorted(done for done, _ in fetch.seen)
    assert fetch.said == []


def test_weights_that_are_here_are_checked_and_not_fetched(fetch: Fetch) -> None:
    fetch()
    assert fetch() is False
    assert len(fetch.server.requests) == 1


def test_a_file_that_is_not_the_right_one_is_never_replaced(fetch: Fetch) -> None:
    fetch.place.parent.mkdir(parents=True)
    fetch.place.write_bytes(b"a year of fine-tuning")
    assert "move it away" in fetch.problem()
    assert fetch.place.read_bytes() == b"a year of fine-tuning"
    assert fetch.server.requests == []


@pytest.mark.parametrize("reset", [False, True], ids=["quiet end", "reset"])
def test_a_cut_connection_is_continued_where_it_ended(fetch: Fetch, reset: bool) -> None:
    fetch.server.answers = [Answer(cut_after=300_000, reset=reset)]
    assert fetch()
    assert is_whole(fetch)
    assert fetch.server.ranges == [None, "bytes=300000-"]
    assert fetch.server.requests[1]["If-Range"] == '"v1"'
    (said,) = fetch.said
    assert said.startswith("localhost: the connection ")
    assert said.endswith("trying again in 0 s.")


def test_many_cuts_are_no_reason_to_give_up_while_each_try_gets_further(fetch: Fetch) -> None:
    fetch.server.answers = [Answer(cut_after=100_000) for _ in range(10)]
    assert fetch()
    assert is_whole(fetch)
    assert len(fetch.server.requests) == 11 > QUICK.tries


def test_a_later_command_goes_on_where_an_earlier_one_gave_up(fetch: Fetch) -> None:
    fetch.leave_part(400_000)
    assert fetch()
    assert is_whole(fetch)
    assert fetch.server.ranges == ["bytes=400000-"]
    assert fetch.seen[0][0] <= 400_000


def test_giving_up_says_what_is_kept_and_how_to_go_on(fetch: Fetch) -> None:
    fetch.server.answers = [Answer(cut_after=400_000)] + [Answer(status=500)] * 3
    sentence = fetch.problem()
    assert "500 Internal Server Error" in sentence
    assert "3 tries in a row" in sentence
    assert "run `tailor fetch-model ours` later, which goes on after the 400,000 bytes" in sentence
    assert str(fetch.place) in sentence


def test_a_server_without_ranges_gives_the_file_from_the_start(fetch: Fetch) -> None:
    fetch.leave_part(400_000)
    fetch.server.answers = [Answer(ignores_range=True)]
    assert fetch()
    assert is_whole(fetch)


def test_a_server_without_ranges_that_always_cuts_is_given_up_on(fetch: Fetch) -> None:
    fetch.server.answers = [Answer(cut_after=200_000, ignores_range=True) for _ in range(9)]
    assert "ended early" in fetch.problem()
    assert len(fetch.server.requests) == QUICK.tries


def test_a_file_that_changed_between_tries_is_fetched_from_the_start(fetch: Fetch) -> None:
    old = fetch.server.body
    fetch.leave_part(400_000)
    fetch.server.body, fetch.server.etag = old[::-1], '"v2"'
    assert fetch()
    assert is_whole(fetch)
    assert fetch.server.ranges == ["bytes=400000-"], "If-Range made it the whole file"


def test_a_server_that_continues_another_file_is_not_believed(fetch: Fetch) -> None:
    old = fetch.server.body
    fetch.leave_part(400_000)
    fetch.server.body, fetch.server.etag = old[::-1], '"v2"'
    fetch.server.answers = [Answer(ignores_if_range=True)]
    assert fetch()
    assert is_whole(fetch)
    assert fetch.server.ranges == ["bytes=400000-", None]


def test_a_server_that_continues_elsewhere_is_not_believed(fetch: Fetch) -> None:
    fetch.leave_part(400_000)
    wrong = {"Content-Range": f"bytes 400001-{SIZE - 1}/{SIZE}"}
    fetch.server.answers = [Answer(headers=wrong)]
    assert fetch()
    assert is_whole(fetch)
    assert fetch.server.ranges == ["bytes=400000-", None]


@pytest.mark.parametrize(
    ("headers", "mark"),
    [({"ETag": 'W/"v1"'}, LAST_MODIFIED), ({"ETag": "", "Last-Modified": ""}, None)],
    ids=["weak ETag", "no marks at all"],
)
def test_without_a_strong_etag_it_is_continued_by_what_there_is(
    fetch: Fetch, headers: dict[str, str], mark: str | None
) -> None:
    fetch.server.answers = [Answer(cut_after=300_000, headers=headers)]
    assert fetch()
    assert is_whole(fetch)
    assert fetch.server.ranges == [None, "bytes=300000-"]
    assert fetch.server.requests[1].get("If-Range") == mark


def test_a_part_from_another_address_is_not_continued(fetch: Fetch) -> None:
    fetch.leave_part(400_000)
    assert fetch(url=fetch.server.url + "?mirror")
    assert is_whole(fetch)
    assert fetch.server.ranges == [None]


@pytest.mark.parametrize("notes", ["", "{", "[]", '{"url": 1}', None])
def test_a_part_nobody_knows_the_origin_of_is_not_continued(
    fetch: Fetch, notes: str | None
) -> None:
    fetch.leave_part(400_000)
    if notes is None:
        notes_of(part_of(fetch.place)).unlink()
    else:
        notes_of(part_of(fetch.place)).write_text(notes)
    assert fetch()
    assert is_whole(fetch)
    assert fetch.server.ranges == [None]


def test_a_part_that_was_complete_is_put_in_place_without_asking_anybody(fetch: Fetch) -> None:
    fetch.place.parent.mkdir(parents=True)
    part_of(fetch.place).write_bytes(fetch.server.body)
    assert fetch()
    assert is_whole(fetch)
    assert fetch.server.requests == []


def test_a_part_longer_than_the_file_is_thrown_away(fetch: Fetch) -> None:
    fetch.leave_part(400_000)
    with part_of(fetch.place).open("ab") as stream:
        stream.write(bytes(SIZE))
    assert fetch()
    assert is_whole(fetch)
    assert fetch.server.ranges == [f"bytes={SIZE + 400_000}-", None]


def test_a_part_that_went_bad_on_the_disk_is_found_by_the_sha256(fetch: Fetch) -> None:
    fetch.leave_part(400_000)
    with part_of(fetch.place).open("rb+") as stream:
        stream.write(b"power cut")
    assert "was deleted" in fetch.problem()
    assert list(fetch.place.parent.iterdir()) == []
    assert fetch(), "and the next command starts from nothing"
    assert is_whole(fetch)


def test_wrong_bytes_are_deleted(fetch: Fetch) -> None:
    fetch.server.answers = [Answer(sends=bytes(SIZE))]
    sentence = fetch.problem()
    assert hashlib.sha256(bytes(SIZE)).hexdigest() in sentence
    assert "was deleted" in sentence
    assert list(fetch.place.parent.iterdir()) == []


def test_a_page_of_another_length_is_refused_before_a_byte_of_the_part_is_lost(
    fetch: Fetch,
) -> None:
    fetch.leave_part(400_000)
    fetch.server.answers = [Answer(sends=b"<html>Please sign in", ignores_range=True)]
    assert "has 20 bytes" in fetch.problem()
    assert part_of(fetch.place).stat().st_size == 400_000


def test_more_bytes_than_the_file_has_are_not_all_taken(fetch: Fetch) -> None:
    """Without a length the server could go on until the disk is full."""
    endless = fetch.server.body * 20
    fetch.server.answers = [Answer(sends=endless, headers={"Content-Length": ""})]
    assert "was deleted" in fetch.problem()
    assert fetch.seen[-1][0] < 2 * SIZE


def test_a_file_of_unknown_size_and_length_is_right_by_its_sha256(fetch: Fetch) -> None:
    fetch.server.answers = [Answer(headers={"Content-Length": ""})]
    assert fetch(size_bytes=None)
    assert is_whole(fetch)


def test_a_busy_server_is_given_the_time_it_asks_for(fetch: Fetch) -> None:
    fetch.server.answers = [
        Answer(status=503, headers={"Retry-After": "1"}),
        Answer(
            status=429,
            headers={"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=-9))},
        ),
    ]
    started = time.monotonic()
    assert fetch()
    assert 1 <= time.monotonic() - started < 4
    assert is_whole(fetch)
    assert "503 Service Unavailable" in fetch.said[0]
    assert "429 Too Many Requests" in fetch.said[1]


def test_a_server_that_asks_for_more_than_there_is_patience_is_not_waited_for(
    fetch: Fetch,
) -> None:
    fetch.server.answers = [Answer(status=503, headers={"Retry-After": "20"})]
    started = time.monotonic()
    sentence = fetch.problem()
    assert time.monotonic() - started < 10
    assert "to wait 20 s" in sentence


def test_the_waits_between_tries_double(fetch: Fetch) -> None:
    fetch.server.answers = [Answer(status=500)] * 9
    started = time.monotonic()
    fetch.problem(Patience(tries=4, first_wait_s=0.1))
    assert 0.7 <= time.monotonic() - started < 2
    assert len(fetch.server.requests) == 4


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_file_that_is_not_there_is_one_sentence_at_once(fetch: Fetch, status: int) -> None:
    fetch.server.answers = [Answer(status=status)]
    sentence = fetch.problem()
    assert str(status) in sentence
    assert fetch.server.url in sentence
    assert len(fetch.server.requests) == 1
    assert list(fetch.place.parent.iterdir()) == [], "an empty part is no part"


def test_a_server_that_falls_silent_is_left(fetch: Fetch) -> None:
    never = threading.Event()
    fetch.server.answers = [Answer(wait=never), Answer(status=404)]
    assert "404" in fetch.problem(Patience(first_wait_s=0.01, silence_s=0.5))
    assert "no answer in time" in fetch.said[0]
    assert fetch.server.ranges[1] == f"bytes={SIZE - 1}-"
    never.set()


def test_a_redirect_is_followed_over_https_only(fetch: Fetch) -> None:
    elsewhere = fetch.server.url.replace("weights", "mirror")
    fetch.server.answers = [Answer(status=302, headers={"Location": elsewhere})]
    assert fetch()
    assert is_whole(fetch)
    fetch.place.unlink()
    http = elsewhere.replace("https:", "http:")
    fetch.server.answers = [Answer(status=302, headers={"Location": http})]
    assert "not https" in fetch.problem()
    fetch.server.answers = [Answer(status=302, headers={"Location": fetch.server.url})] * 20
    assert "302" in fetch.problem()


# No network


def offline_words(fetch: Fetch) -> list[str]:
    """What a person needs who brings the file on a stick."""
    sha256 = hashlib.sha256(fetch.server.body).hexdigest()
    return ["put the file ours.pt", f"{SIZE:,} bytes", sha256, str(fetch.place)]


def test_a_name_that_nobody_knows_is_said_at_once_with_what_to_put_where(fetch: Fetch) -> None:
    url = "https://weights.invalid/ours.pt"  # RFC 2606: never resolves
    sentence = fetch.problem(url=url)
    assert "weights.invalid cannot be reached" in sentence
    for words in [*offline_words(fetch), url]:
        assert words in sentence
    assert fetch.said == []


def test_a_refused_connection_is_said_at_once_with_what_to_put_where(fetch: Fetch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    sentence = fetch.problem(url=f"https://localhost:{port}/ours.pt")
    assert "localhost cannot be reached" in sentence
    for words in offline_words(fetch):
        assert words in sentence
    assert fetch.said == []


def test_a_network_that_goes_away_in_the_middle_is_waited_for(
    server: WeightsServer, certificate: Path, place: Path
) -> None:
    """The same refusal as above, but a moment ago there was a way."""
    with serve_weights(server.body, certificate) as first:
        first.answers = [Answer(cut_after=100_000)]
        fetch = Fetch(first, place)
        stopped = threading.Event()

        def say(sentence: str) -> None:
            fetch.said.append(sentence)
            stopped.set()

        failed: list[PermanentProblem] = []

        def run() -> None:
            try:
                fetch_weights(
                    entry_for(first),
                    place,
                    say=say,
                    patience=Patience(tries=3, first_wait_s=0.5, silence_s=5),
                )
            except PermanentProblem as problem:
                failed.append(problem)

        thread = threading.Thread(target=run)
        thread.start()
        assert stopped.wait(10)
    thread.join(20)
    assert "3 tries in a row" in str(failed[0])
    assert "100,000 bytes that are kept" in str(failed[0])


def test_the_systems_proxy_is_used(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect_proxy() as (port, asked):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        assert fetch()
    assert is_whole(fetch)
    assert asked == [f"localhost:{fetch.server.port}"]


def test_a_proxy_that_is_away_is_named_without_its_password(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://ann:hush@127.0.0.1:{port}")
    sentence = fetch.problem()
    assert f"through the proxy 127.0.0.1:{port}" in sentence
    assert "hush" not in sentence


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:port", "socks9://127.0.0.1:1"])
def test_a_proxy_that_is_none_is_one_sentence(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    fetch.problem()


def test_a_certificate_nobody_vouches_for_is_not_accepted(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(write_certificate(tmp_path)))  # of another server
    assert "name its certificate in SSL_CERT_FILE" in fetch.problem()
    assert fetch.server.requests == []


@pytest.mark.parametrize("url", ["https://", "https://local host/x", "https://localhost:x/y"])
def test_an_address_that_is_none_is_one_sentence(fetch: Fetch, url: str) -> None:
    fetch.problem(url=url)


# Models that cannot be fetched


@pytest.mark.parametrize(("lacks", "words"), [("url", "no url"), ("sha256", "no sha256")])
def test_without_address_or_sha256_the_person_is_told_what_to_do(
    fetch: Fetch, lacks: str, words: str
) -> None:
    sentence = fetch.problem(**{lacks: None})
    assert words in sentence
    assert str(fetch.place) in sentence
    assert fetch.server.requests == []


# The disk


def test_a_full_disk_is_one_sentence_and_the_part_is_kept(fetch: Fetch) -> None:
    """A limit on the size of files stands for the end of the disk: the same write fails."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, old[1]))
    try:
        sentence = fetch.problem()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "cannot be written" in sentence
    assert "goes on after the 500,000 bytes that are kept" in sentence
    kept = part_of(fetch.place).stat().st_size
    assert kept == 500_000
    assert fetch()
    assert fetch.server.ranges == [None, f"bytes={kept}-"]
    assert is_whole(fetch)


def test_a_folder_that_cannot_be_made_is_one_sentence(fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file, not a folder")
    assert "TAILOR_MODELS" in fetch.problem()


def test_nothing_is_written_through_another_persons_link(fetch: Fetch, tmp_path: Path) -> None:
    fetch.place.parent.mkdir(parents=True)
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"precious")
    part_of(fetch.place).symlink_to(theirs)
    assert "cannot be written" in fetch.problem()
    assert theirs.read_bytes() == b"precious"


def test_a_part_that_is_finished_between_opening_and_locking_is_not_written_to(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may put it in place in just that moment; what was opened is then the file."""
    place.parent.mkdir(parents=True)
    part_of(place).write_bytes(b"whole")

    def finish_first(stream: io.FileIO, how: int) -> None:
        if not place.exists():
            os.replace(part_of(place), place)
        flock(stream, how)

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", finish_first)
    with hold_partial_file(place, lambda: None) as part:
        part.start_over(Origin("https://localhost"))
        part.append(b"other bytes")
    assert place.read_bytes() == b"whole"


# The command, in processes of its own


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tailor_assets.cli", *arguments],
        env={**os.environ, "TAILOR_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(ready: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_a_fetch_that_is_killed_goes_on_where_it_was(fetch: Fetch, tmp_path: Path) -> None:
    home, part = tmp_path / "home", part_of(fetch.place)
    write_models(home, entry_for(fetch.server))
    chance = random.Random(3)
    sizes: list[int] = []
    for _ in range(4):
        fetch.server.answers = [Answer(pause_s=0.02)]
        process = start(home, "fetch-model", "ours")
        further = size_of(part) + chance.randrange(1, 250_000)
        until(lambda further=further: size_of(part) >= further, "it grows")
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        sizes.append(size_of(part))
        assert not fetch.place.exists()
    assert sizes == sorted(sizes)
    process = start(home, "fetch-model", "ours")
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert out == f"{fetch.place}\n"
    assert fetch.server.ranges == [None, *(f"bytes={size}-" for size in sizes)]
    assert is_whole(fetch)


def test_of_two_at_once_one_fetches_and_the_other_waits(fetch: Fetch, tmp_path: Path) -> None:
    home = tmp_path / "home"
    write_models(home, entry_for(fetch.server))
    last_byte = threading.Event()
    fetch.server.answers = [Answer(wait=last_byte)]
    first = start(home, "fetch-model", "ours")
    until(lambda: size_of(part_of(fetch.place)) == SIZE - 1, "the first has nearly all")
    others = [start(home, "fetch-model", "ours") for _ in range(2)]
    for other in others:
        assert other.stderr is not None
        line = other.stderr.readline()
        assert "Another process is fetching ours.pt" in line
    last_byte.set()
    ends = [process.communicate(timeout=60) for process in (first, *others)]
    assert [process.returncode for process in (first, *others)] == [0, 0, 0], ends
    assert "here now" in ends[0][1]
    for _, errors in ends[1:]:
        assert "was here already" in errors
    assert len(fetch.server.requests) == 1
    assert is_whole(fetch)


def test_when_the_one_that_fetches_is_killed_the_one_that_waits_goes_on(
    fetch: Fetch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    write_models(home, entry_for(fetch.server))
    never = threading.Event()
    fetch.server.answers = [Answer(wait=never)]
    first = start(home, "fetch-model", "ours")
    until(lambda: size_of(part_of(fetch.place)) == SIZE - 1, "the first has nearly all")
    second = start(home, "fetch-model", "ours")
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    first.kill()
    first.communicate(timeout=30)
    _, errors = second.communicate(timeout=60)
    never.set()
    assert second.returncode == 0, errors
    assert fetch.server.ranges == [None, f"bytes={SIZE - 1}-"]
    assert is_whole(fetch)


def test_ctrl_c_keeps_what_is_here_and_says_how_to_go_on(fetch: Fetch, tmp_path: Path) -> None:
    home = tmp_path / "home"
    write_models(home, entry_for(fetch.server))
    never = threading.Event()
    fetch.server.answers = [Answer(wait=never)]
    process = start(home, "fetch-model", "ours")
    until(lambda: size_of(part_of(fetch.place)) == SIZE - 1, "it has nearly all")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    never.set()
    assert process.returncode == 130
    assert "1.5 MB of ours is kept; `tailor fetch-model ours` goes on there." in errors
    assert errors.endswith("tailor: stopped.\n")
    assert "Traceback" not in errors
    assert main(["fetch-model", "ours"]) == 0
    assert is_whole(fetch)


def test_a_laboratory_has_one_folder_for_all(
    fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_models(tmp_path / "home", entry_for(fetch.server))
    monkeypatch.setenv("TAILOR_MODELS", str(tmp_path / "everybody"))
    assert main(["fetch-model", "ours"]) == 0
    assert (tmp_path / "everybody" / "ours.pt").read_bytes() == fetch.server.body
    assert not (tmp_path / "home" / "models").exists()


def test_all_means_every_model_with_an_address(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "home" / "models.toml"
    write_models(own.parent, entry_for(server))
    # The shipped ones would come from the network: put ours in their place.
    lines = own.read_text().splitlines()[1:]
    names = ["sam2.1-hiera-tiny", "sam2.1-hiera-small", "sam2.1-hiera-base-plus"]
    tables = ['["sam2.1-hiera-large"]\nkind = "sam2"\nconfig = "x.yaml"\nfile = "large.pt"']
    for name in names:
        fields = [line.replace("ours.pt", f"{name}.pt") for line in lines]
        tables.append("\n".join([f'["{name}"]', *fields]))
    own.write_text("\n".join(tables) + "\n")
    assert main(["fetch-model", "--all"]) == 0
    fetched = {path.name for path in (tmp_path / "home" / "models").iterdir()}
    assert fetched == {f"{name}.pt" for name in names}


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("background", 0, "background needs no weights."),
        ("sam9", 1, "There is no segmenter 'sam9': choose one of background"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence(
    capsys: pytest.CaptureFixture[str], name: str, status: int, words: str
) -> None:
    assert main(["fetch-model", name]) == status
    found = capsys.readouterr()
    assert words in found.err
    assert found.out == ""


def test_the_fetched_weights_are_those_the_registry_gives_the_worker(
    fetch: Fetch, tmp_path: Path
) -> None:
    from resources.segmenter import Segmenter

    write_models(tmp_path / "home", entry_for(fetch.server))
    registry = Segmenter().registry()
    with pytest.raises(PermanentProblem, match="run `tailor fetch-model ours`, or, where there"):
        registry.spec(registry.get("ours"))
    assert main(["fetch-model", "ours"]) == 0
    assert registry.spec(registry.get("ours")).checkpoint == str(fetch.place)


# tailor models


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    capsys.readouterr()
    assert main(["models", "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_the_list_says_which_weights_are_here_and_whether_they_are_right(
    fetch: Fetch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_models(tmp_path / "home", entry_for(fetch.server))
    rows = listed(capsys)
    assert rows["background"]["weights"] == "none needed"
    assert rows["tailor-nano"]["default"] is True
    assert rows["tailor-nano"]["weights"] == "verified", "they come with tailor"
    assert rows["sam2.1-hiera-tiny"]["weights"] == rows["ours"]["weights"] == "missing"
    assert rows["ours"]["path"] == str(fetch.place)
    fetch.leave_part(400_000)
    assert listed(capsys)["ours"]["weights"] == "partial"
    assert listed(capsys)["ours"]["bytes_here"] == 400_000
    fetch()
    assert listed(capsys)["ours"]["weights"] == "verified"
    fetch.place.write_bytes(b"x" + fetch.server.body[1:])
    assert listed(capsys)["ours"]["weights"] == "wrong"
    write_models(tmp_path / "home", entry_for(fetch.server, sha256=None))
    assert listed(capsys)["ours"]["weights"] == "not verified"


def test_the_table_has_one_line_for_each_model_and_marks_the_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAILOR_SEGMENTER", "sam2.1-hiera-tiny")
    assert main(["models"]) == 0
    found = capsys.readouterr()
    lines = found.out.splitlines()
    assert len(lines) == 7
    (marked,) = (line for line in lines if "(default)" in line)
    for words in ("sam2.1-hiera-tiny", "156.0 MB", "1024 px", "Apache-2.0", "not here", "39 M"):
        assert words in marked
    assert str(tmp_path / "home" / "models") in found.err.replace("\n", "")


def test_a_default_that_does_not_exist_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_SEGMENTER", "sam9")
    assert main(["models"]) == 0
    assert "'sam9', which is none of these" in capsys.readouterr().err


def test_weights_are_read_once_for_many_lists(
    fetch: Fetch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gigabytes are not hashed each time: a file with the same size and time is taken as the same."""
    write_models(tmp_path / "home", entry_for(fetch.server))
    fetch()
    assert listed(capsys)["ours"]["weights"] == "verified"
    before = fetch.place.stat()
    fetch.place.write_bytes(bytes(SIZE))
    os.utime(fetch.place, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert listed(capsys)["ours"]["weights"] == "verified", "it was not read again"
    os.utime(fetch.place, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert listed(capsys)["ours"]["weights"] == "wrong"


@pytest.mark.parametrize("memory", ["{", "[]", '{"PLACE": 1}', '{"PLACE": {"size": 1500001}}'])
def test_a_broken_memory_of_checks_is_made_anew(
    fetch: Fetch, tmp_path: Path, capsys: pytest.CaptureFixture[str], memory: str
) -> None:
    write_models(tmp_path / "home", entry_for(fetch.server))
    fetch()
    file = tmp_path / "home" / "verified_weights.json"
    file.write_text(memory.replace("PLACE", str(fetch.place)))
    assert listed(capsys)["ours"]["weights"] == "verified"
    assert json.loads(file.read_text())[str(fetch.place)]["size"] == SIZE


def test_a_home_that_cannot_be_written_to_still_has_its_list(
    fetch: Fetch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_models(tmp_path / "home", entry_for(fetch.server))
    fetch()
    (tmp_path / "home" / "verified_weights.json").mkdir()  # nobody, not even root, writes to it
    assert listed(capsys)["ours"]["weights"] == "verified"


def test_every_state_of_weights_has_its_words() -> None:
    source = Path(models_command.__file__).read_text()
    for state in re.findall(r'row\("([a-z ]+)"', source):
        assert state in models_command._IN_WORDS
