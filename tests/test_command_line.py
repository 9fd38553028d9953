"""``tailor run`` and ``tailor rescore``: results or one sentence, whatever they are given."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from resources.database import engine_for
from resources.settings import PROJECT_ROOT
from resources.video_registry import VideoRegistry, VideoRow
from tailor_assets.cli import main
from tailor_assets.commands.run_one_video import run_one_video
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader

NEST = "nest=232,80"  # inside the nest of small_clip
MOUSE = "mouse=87,153"
NO_DATA = "no data"


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAILOR_HOME", str(tmp_path / "home"))
    for name in ("TAILOR_TEMPLATES", "TAILOR_POSTGRES_URL"):
        monkeypatch.delenv(name, raising=False)


def tailor(*arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as people type it."""
    return subprocess.run(
        [sys.executable, "-m", "tailor_assets.cli", *map(str, arguments)],
        env={**os.environ, "TAILOR_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def typed(
    tmp_path_factory: pytest.TempPathFactory, small_clip: Path
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """``tailor run`` of the small clip, typed once, and its --out."""
    folder = tmp_path_factory.mktemp("typed")
    out = folder / "out"
    return tailor("run", small_clip, "--point", NEST, "--out", out, home=folder / "home"), out


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on standard error."""
    text = capsys.readouterr().err
    sentences = [line for line in text.splitlines() if line.startswith("tailor: ")]
    assert len(sentences) == 1, text
    assert "Traceback" not in text
    return sentences[0]


def test_one_typed_line_gives_the_whole_results_folder(
    typed: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, out = typed
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out / 'clip'}\n", "a script takes the folder from standard output"
    assert "Frames: 30." in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    assert {path.name for path in (out / "clip").iterdir()} == {
        "clip.npz", "clip_features.csv", "clip_prediction.csv", "clip_flags_predonly.csv",
        "clip_flags_predonly_summary.csv", "clip_report.html", "clip_overlay.mp4", "frames.csv",
        "frames", "watch", "manifest.json",
    }  # fmt: skip
    assert len(list((out / "clip" / "frames").iterdir())) == 30
    assert [path.name for path in out.iterdir()] == ["clip"], "no working files are left"
    manifest = json.loads((out / "clip" / "manifest.json").read_text())
    assert manifest["template"] == "mouse_nest", "chosen by the point that was given"


def test_rescoring_the_npz_gives_the_same_tables(
    typed: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
) -> None:
    _, out = typed
    assert main(["rescore", str(out / "clip" / "clip.npz"), "--out", str(tmp_path)]) == 0
    for table in ("features", "prediction", "flags_predonly"):
        name = f"clip_{table}.csv"
        assert (tmp_path / "clip" / name).read_text() == (out / "clip" / name).read_text(), name
    (first,) = pl.read_csv(out / "clip" / "clip_flags_predonly_summary.csv").to_dicts()
    (again,) = pl.read_csv(tmp_path / "clip" / "clip_flags_predonly_summary.csv").to_dicts()
    copied = {"flagged_frames", "flagged_frames_pct"}  # there is no video to copy frames of
    assert {k: v for k, v in again.items() if k not in copied} == {
        k: v for k, v in first.items() if k not in copied
    }
    assert again["flagged_frames"] == 0


def test_running_again_with_other_frames_leaves_nothing_of_the_first(
    typed: tuple[subprocess.CompletedProcess[str], Path], small_clip: Path, tmp_path: Path
) -> None:
    shutil.copytree(typed[1], tmp_path / "out")
    folder = tmp_path / "out" / "clip"
    (folder / "watch" / "mine.jpg").write_text("my own")
    done = run_one_video(small_clip, tmp_path / "out", stride=18)
    assert done.folder == folder
    frames = {f"{number:06d}.jpg" for number in range(5)}
    assert {path.name for path in (folder / "frames").iterdir()} == frames
    left = {path.name for path in (folder / "watch").iterdir()}
    assert "mine.jpg" in left
    assert left - {"mine.jpg"} <= frames
    assert len(left) - 1 == done.summary["flagged_frames"]


def test_tailor_json_beside_the_video_counts_and_arguments_go_before_it(
    small_clip: Path, tmp_path: Path
) -> None:
    shutil.copyfile(small_clip, tmp_path / "clip.mp4")
    (tmp_path / "tailor.json").write_text('\ufeff{"stride": 30, "px_per_cm": 5}')
    done = run_one_video(tmp_path / "clip.mp4", tmp_path / "out")
    assert done.summary["total_rows"] == 3
    assert "speed_cm_s" in pl.read_csv(done.folder / "clip_features.csv").columns
    assert run_one_video(tmp_path / "clip.mp4", tmp_path / "out", fps=2).summary["total_rows"] == 6


def test_a_name_may_have_several_points(small_clip: Path, tmp_path: Path) -> None:
    given = ["--point", "mouse=87,153", "--point", NEST, "--point", "mouse=90,150,45"]
    out = str(tmp_path / "out")
    assert main(["run", str(small_clip), "--fps", "2", *given, "--out", out]) == 0
    manifest = json.loads((tmp_path / "out" / "clip" / "manifest.json").read_text())
    assert [(p["name"], p["x"], p["source_frame"]) for p in manifest["points"]] == [
        ("mouse", 87, 0), ("mouse", 90, 45), ("nest", 232, 0),
    ]  # fmt: skip


# One sentence for everything that cannot be done


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["absent.mp4"], r"absent\.mp4 is not there"),
        (["folder"], r"folder is a folder"),
        (["notes.txt"], r"notes\.txt has no ending of a video \(\.mp4, \.avi"),
        (["garbage.mp4"], r"garbage\.mp4"),
        (["empty.mp4"], r"empty\.mp4"),
        (["clip.mp4", "--template", "moose"], r"no template 'moose': choose one of mouse"),
        (["clip.mp4", "--template", "mouse_nest"], r"needs a point for nest.*--point nest=X,Y"),
        (["clip.mp4", "--point", "hamster=1,2"], r"hamster"),
        (["clip.mp4", "--point", "mouse=320,2"], r"outside the picture, which is 320 x 240"),
        (["clip.mp4", "--point", "mouse=1,2,90"], r"frames 0 to 89"),
        (["clip.mp4", "--point", "mouse=nan,2"], r"mouse, point 1\.x"),
        (["clip.mp4", "--point", MOUSE, "--point", MOUSE], r"--point.*\(87, 153\) is given twice"),
        (["clip.mp4", "--point", MOUSE, "--point", "mouse=1,999,4"], r"mouse \(1, 999, 4\)"),
        (["clip.mp4", "--stride", "0"], r"--stride 0"),
        (["clip.mp4", "--fps", "-1"], r"--fps -1"),
        (["clip.mp4", "--fps", "nan"], r"--fps nan"),
        (["clip.mp4", "--window", "0"], r"--window 0"),
        (["clip.mp4", "--point", MOUSE, "--segmenter", "magic"], r"magic"),
        (["clip.mp4", "--point", MOUSE, "--fps", "1", "--model", "magic"], r"model 'magic'"),
    ],
)
def test_bad_input_gives_one_sentence_and_status_1(
    arguments: list[str],
    says: str,
    small_clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("fed at noon")
    (tmp_path / "garbage.mp4").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "clip.mp4").symlink_to(small_clip)
    assert main(["run", *arguments, "--out", "out"]) == 1
    sentence = said(capsys)
    assert re.search(says, sentence), sentence
    out = tmp_path / "out"
    assert not out.exists() or [p.name for p in out.iterdir()] == [], "nothing half done is left"


def test_bad_input_typed_gives_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(bytes(1000))
    done = tailor("run", tmp_path / "bad.mp4", "--out", tmp_path / "out", home=tmp_path / "home")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if "bad.mp4" in line]) == 1


def test_a_tailor_json_that_is_wrong_is_said_before_anything_is_done(
    small_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copyfile(small_clip, tmp_path / "clip.mp4")
    (tmp_path / "tailor.json").write_text("{stride: 3}")
    assert main(["run", str(tmp_path / "clip.mp4"), "--out", str(tmp_path / "out")]) == 1
    assert "tailor.json is not valid JSON" in said(capsys)


def test_results_that_cannot_be_written_are_said(
    small_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["run", str(small_clip), "--out", str(tmp_path / "file")]) == 1
    assert "--out" in said(capsys)


@pytest.mark.parametrize("text", ["mouse", "mouse=1", "=1,2", "mouse=a,b", "mouse=1,2,0.5"])
def test_a_point_that_cannot_be_read_is_a_mistake_of_usage(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "x.mp4", "--point", text])
    assert stopped.value.code == 2
    assert "NAME=X,Y" in capsys.readouterr().err


def test_a_file_whose_name_is_no_text_is_processed(small_clip: Path, tmp_path: Path) -> None:
    video = Path(os.fsdecode(os.fsencode(tmp_path) + b"/K\xe4fig.mp4"))
    shutil.copyfile(small_clip, video)
    done = run_one_video(video, tmp_path / "out", stride=30)
    assert (done.folder / "manifest.json").is_file()


@pytest.mark.parametrize("name", [".hidden.mp4", "a:b?.MP4", "new\nline.mp4", "-x.mp4", "é.mov"])
def test_hostile_file_names_are_processed(small_clip: Path, tmp_path: Path, name: str) -> None:
    shutil.copyfile(small_clip, tmp_path / name)
    done = run_one_video(tmp_path / name, tmp_path / "out", stride=45)
    assert done.folder.parent == tmp_path / "out"
    assert (done.folder / f"{done.folder.name}_features.csv").is_file()


@pytest.mark.parametrize(
    ("content", "says"), [(None, "no masks file"), (b"PK no", "not a masks file")]
)
def test_rescoring_what_is_no_masks_file_gives_one_sentence(
    content: bytes | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    npz = tmp_path / "x.npz"
    if content is not None:
        npz.write_bytes(content)
    assert main(["rescore", str(npz), "--out", str(tmp_path / "out")]) == 1
    assert says in said(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("window", ["-1", "nan", "inf"])
def test_rescoring_with_an_impossible_window_gives_one_sentence(
    typed: tuple[subprocess.CompletedProcess[str], Path],
    window: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    npz = typed[1] / "clip" / "clip.npz"
    assert main(["rescore", str(npz), "--window", window, "--out", str(tmp_path / "out")]) == 1
    assert "window" in said(capsys)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_rescoring_leaves_the_finished_results_of_a_run_alone(
    typed: tuple[subprocess.CompletedProcess[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(typed[1], tmp_path / "out")
    before = contents(tmp_path / "out")
    npz = tmp_path / "out" / "clip" / "clip.npz"
    assert main(["rescore", str(npz), "--species", "rat", "--out", str(tmp_path / "out")]) == 1
    assert "clip has the finished results of `tailor run`" in (sentence := said(capsys))
    assert "--out" in sentence
    assert contents(tmp_path / "out") == before
    for _ in range(2):  # tables of its own are replaced
        assert main(["rescore", str(npz), "--out", str(tmp_path / "other")]) == 0


def test_another_recording_of_the_same_name_does_not_replace_the_results_of_the_first(
    small_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "a" / "cam1.mp4", tmp_path / "b" / "cam1.mp4"
    for video in (first, second):
        video.parent.mkdir()
        shutil.copyfile(small_clip, video)
    out = tmp_path / "out"
    run_one_video(first, out, stride=45)
    assert run_one_video(second, out, stride=45).folder == out / "cam1", "it is the same recording"
    with second.open("ab") as more:
        more.write(bytes(16))
    before = contents(out)
    assert main(["run", str(second), "--stride", "45", "--out", str(out)]) == 1
    assert "cam1 has the results of another recording" in (sentence := said(capsys))
    assert "--out" in sentence
    assert contents(out) == before
    assert main(["run", str(second), "--stride", "45", "--out", str(tmp_path / "out b")]) == 0


def test_a_disk_without_room_for_the_registry_is_said(small_clip: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tailor_assets.cli", "run", str(small_clip), "--out", "out"],
        # No file can be written any more, as on a full disk.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        env={**os.environ, "TAILOR_HOME": str(tmp_path), "PYTHONPATH": str(PROJECT_ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.fullmatch(r"tailor: Results cannot be written to out .*--out\.", done.stderr.strip())
    assert list((tmp_path / "out").iterdir()) == []


# Numbers that would start nothing, or something that does nothing


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["up", "--gpus", "0"],
            "--gpus 0 segments nothing: give 1 or more, 1 also where there is no",
        ),
        (["up", "--gpus", "-3"], "--gpus -3"),
        (["up", "--port", "99999"], "--port 99999 is no port: give one of 1 to 65535."),
        (["up", "--port", "-1"], "--port -1"),
        (["up", "--port", "0"], "--port 0"),
        (["up", "--metrics-port", "99999"], "--metrics-port 99999 is no port"),
        (["up", "--metrics-port", "-5"], "or 0 for none"),
        (["demo", "--port", "99999"], "--port 99999"),
    ],
)
def test_services_that_could_not_work_are_not_started(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert says in said(capsys)
    assert not (tmp_path / "home").exists(), "nothing was begun"


# The database is away, empty, or another

ASKING = (
    ["queue"],
    ["queue", "why", "0123abcd"],
    ["queue", "cancel", "0123abcd"],
    ["waiting"],
    ["costs"],
    ["notify"],
    ["quota"],
    ["drives"],
    ["audit", "show"],
)


@pytest.fixture
def home_of_a_running_tailor(tmp_path: Path) -> None:
    (tmp_path / "home" / "dagster").mkdir(parents=True)
    shutil.copy(PROJECT_ROOT / "dagster.yaml", tmp_path / "home" / "dagster")


@pytest.mark.usefixtures("home_of_a_running_tailor")
@pytest.mark.parametrize("arguments", ASKING, ids=" ".join)
def test_commands_say_in_one_sentence_that_the_database_is_away(
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TAILOR_POSTGRES_URL", "postgresql://x:secret@127.0.0.1:1/none")
    assert main(arguments) == 1
    sentence = said(capsys)
    assert "Connection refused" in sentence
    assert "TAILOR_POSTGRES_URL" in sentence
    assert "secret" not in sentence


@pytest.mark.usefixtures("home_of_a_running_tailor")
@pytest.mark.parametrize("arguments", ASKING, ids=" ".join)
def test_commands_say_in_one_sentence_that_the_database_has_no_tables(
    arguments: list[str],
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE IF EXISTS empty WITH (FORCE)")
        connection.exec_driver_sql("CREATE DATABASE empty")
    server.dispose()
    empty = sa.make_url(postgres_url).set(database="empty").render_as_string(hide_password=False)
    monkeypatch.setenv("TAILOR_POSTGRES_URL", empty)
    assert main(arguments) == 1
    engine_for(empty).dispose()
    assert re.search("does not exist|has no audit log", said(capsys))


@pytest.mark.parametrize("arguments", [*ASKING, ["audit", "verify"]], ids=" ".join)
def test_a_database_url_that_cannot_be_read_is_said_without_its_password(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILOR_POSTGRES_URL", "postgresql://x:secret@host:port:abc/x")
    assert main(arguments) == 1
    sentence = said(capsys)
    assert "secret" not in sentence


def test_a_home_folder_that_is_not_the_running_tailors_is_said(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILOR_POSTGRES_URL", url)
    for arguments in (["queue", "cancel", "0123abcd"], ["reconcile"]):
        assert main(arguments) == 1
        assert re.search("no dagster.yaml in .*: set TAILOR_HOME", said(capsys))


def test_a_folders_name_forges_no_line_of_what_waits(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILOR_POSTGRES_URL", url)
    registry = VideoRegistry(url=url)
    forged = "x\nben\tday 9\tto be mended\t\x1b[2Jnothing"
    registry.save(
        [
            VideoRow("a--1", "anna", "f1", forged, "x", "admitted"),
            VideoRow("a--2", "anna", "f2", "day\r2", "y", "rejected", problem="Two\nvideos."),
        ]
    )
    registry.set_waiting("a--1", "a point for nest")
    try:
        assert main(["waiting"]) == 0
    finally:
        registry.forget("anna")
    waits, broken = capsys.readouterr().out.split("\n")[:-1]
    name = r"x\nben\tday 9\tto be mended\t\x1b[2Jnothing"
    assert waits.startswith(f"anna\t{name}\ta point for nest\tsince 2")
    assert broken == "anna\tday\\r2\tto be mended\tTwo\\nvideos."


# The odd recordings, each as its list says


def run_odd(shared_data: Path, name: str, out: Path, **options: Any) -> dict[str, Any]:
    """Process at 2 frames/s unless told otherwise; the tables and the masks' tables."""
    done = run_one_video(shared_data / "odd_videos" / name, out, **({"fps": 2} | options))
    stem = done.folder.name
    with MaskReader(done.folder / f"{stem}.npz") as masks:
        areas, size = masks.area("mouse"), (masks.width, masks.height)
    return {
        "summary": done.summary,
        "frames": pl.read_csv(done.folder / "frames.csv"),
        "features": pl.read_csv(done.folder / f"{stem}_features.csv", infer_schema_length=None),
        "predictions": pl.read_csv(done.folder / f"{stem}_prediction.csv"),
        "video": json.loads((done.folder / "manifest.json").read_text())["video"],
        "areas": areas,
        "size": size,
    }


def test_variable_frame_rate_keeps_the_containers_times(shared_data: Path, tmp_path: Path) -> None:
    odd = shared_data / "odd_videos"
    kept = [
        int(line)
        for line in (odd / "m3v1_vfr_drop25pct_kept_source_frames.txt").read_text().split()
    ]
    got = run_odd(shared_data, "m3v1_vfr_drop25pct.mp4", tmp_path, fps=1)
    assert got["video"]["frame_count"] == len(kept)
    assert got["video"]["variable_frame_rate"]
    expected = [(kept[n] - kept[0]) / 30 for n in got["frames"]["source_frame"]]
    assert np.allclose(got["frames"]["timestamp_s"], expected, atol=0.002)
    assert (got["areas"] > 1000).all(), "the mouse is in every frame"


def test_an_odd_width_and_height_are_kept(shared_data: Path, tmp_path: Path) -> None:
    got = run_odd(shared_data, "m3v1_odd_639x479.avi", tmp_path)
    assert got["size"] == (639, 479)
    assert (got["areas"] > 1000).all()


def test_one_frame_is_one_row_and_no_division_by_zero(shared_data: Path, tmp_path: Path) -> None:
    got = run_odd(shared_data, "m3v1_1frame.mp4", tmp_path, fps=None)
    assert got["summary"]["total_rows"] == 1
    assert got["summary"]["effective_fps"] is None
    assert got["summary"]["predicted_change_points"] == 0
    for table in ("frames", "features", "predictions"):
        assert got[table].height == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("m3v1_truncated.mp4", r"m3v1_truncated\.mp4 is cut off.*copy it again"),
        ("corrupted_stream.mp4", r"corrupted_stream\.mp4 is damaged.*copy it again"),
    ],
)
def test_a_damaged_recording_is_said_by_its_own_name(
    shared_data: Path, tmp_path: Path, name: str, says: str
) -> None:
    with pytest.raises(PermanentProblem, match=says):
        run_odd(shared_data, name, tmp_path)
    assert list(tmp_path.glob("*")) == [] or not any(tmp_path.glob("*/*"))


def decoded(path: Path) -> int:
    """Frames that decode, counted by another decoder's loop than tailor's."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("name", ["nonmonotonic_pts.avi", "header_says_0_frames.mkv"])
def test_frames_are_counted_by_decoding_and_time_moves_forward(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    got = run_odd(shared_data, name, tmp_path, fps=1)
    assert got["video"]["frame_count"] == decoded(shared_data / "odd_videos" / name)
    assert (np.diff(got["frames"]["timestamp_s"]) > 0).all()
    assert got["frames"]["timestamp_s"][0] == 0


def test_a_rotated_recording_comes_out_upright(shared_data: Path, tmp_path: Path) -> None:
    with av.open(str(shared_data / "odd_videos" / "rotated_90.mov")) as container:
        coded = (container.streams.video[0].width, container.streams.video[0].height)
    got = run_odd(shared_data, "rotated_90.mov", tmp_path)
    assert got["size"] == coded[::-1]


@pytest.mark.parametrize("name", ["h265_10bits.mp4", "av1_video.mkv"])
def test_a_modern_codec_is_processed_or_named(shared_data: Path, tmp_path: Path, name: str) -> None:
    sentence = ""
    try:
        got = run_odd(shared_data, name, tmp_path)
    except PermanentProblem as problem:
        sentence = str(problem)
    else:
        assert got["summary"]["total_rows"] > 0
    assert re.search(r"^$|hevc|h265|av1", sentence, re.IGNORECASE)


def test_an_empty_chamber_has_no_animal_and_nothing_is_zero(
    shared_data: Path, tmp_path: Path
) -> None:
    got = run_odd(shared_data, "empty_chamber.wmv", tmp_path)
    assert got["video"]["frame_count"] == 298
    assert not got["areas"].any()
    assert got["predictions"]["behavior"].unique().to_list() == [NO_DATA]
    assert got["summary"]["predicted_change_points"] == 0
    table = got["features"]
    known = {"frame", "source_frame", "timestamp_s", "mask_quality", "mask_state"}
    for name in set(table.columns) - known:
        assert table[name].null_count() == table.height, f"{name} of no animal is no number"
    assert (table["mask_quality"] == 0).all()
    assert (table["mask_state"] == "lost").all()
    assert got["summary"]["lost_mask_rows"] == table.height
