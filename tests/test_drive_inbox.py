"""The sensor that sees uploads: a real Drive folder, a real registry, a real (in-memory) instance."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

import resources.local_drive
import sensors.drive_inbox
import sensors.inbox_changes
from resources.artifact_store import ArtifactStore
from resources.database import engine_for, migrate
from resources.local_drive import LocalDrive
from resources.video_registry import VideoRegistry, VideoRow, videos_table
from run_queue.job_ledger import register_run, to_job
from run_queue.job_requests import VIDEO_TAG
from run_queue.job_tables import jobs_table
from sensors.admission import request_for
from sensors.drive_inbox import drive_inbox

SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE
STARTED = dg.DagsterRunStatus.STARTED
FROM_FRAMES = {
    "frames", "prompts", "masks", "features", "predictions", "flags", "report",
    "published_results",
}  # fmt: skip
FROM_PROMPTS = FROM_FRAMES - {"frames"}


@dataclass
class Inbox:
    """The sensor's world, and the daemon's part in it."""

    root: Path
    instance: dg.DagsterInstance
    registry: VideoRegistry
    store: ArtifactStore

    def put(self, tenant: str, name: str, content: str | bytes, file: str = "v.mp4") -> Path:
        path = self.root / tenant / "tailor" / "videos" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def tick(self) -> list[dg.RunRequest]:
        """One look, and the runs of the jobs that have not come to the run queue by then."""
        context = dg.build_sensor_context(
            instance=self.instance,
            resources={
                "drive": LocalDrive(root=str(self.root)),
                "registry": self.registry,
                "store": self.store,
            },
        )
        result = drive_inbox(context)
        if isinstance(result, dg.SkipReason):
            self.skipped = result.skip_message or ""
        else:
            assert isinstance(result, dg.SensorResult)
            (added,) = result.dynamic_partitions_requests or []
            self.instance.add_dynamic_partitions("videos", list(added.partition_keys))
        query = (
            sa.select(jobs_table)
            .where(jobs_table.c.state == "pending")
            .order_by(jobs_table.c.accepted_at)
        )
        with engine_for(self.registry.database_url).begin() as connection:
            pending = [to_job(row) for row in connection.execute(query).mappings()]
        return [request_for(job, job.run_keys[0]) for job in pending]

    def launch(
        self, requests: list[dg.RunRequest], status: dg.DagsterRunStatus = SUCCESS
    ) -> list[str]:
        """As admission and the daemon: a run for each."""
        launched = []
        for request in requests:
            assert request.partition_key in self.instance.get_dynamic_partitions("videos")
            run = dg.DagsterRun(
                job_name="process_video",
                status=status,
                tags={
                    **request.tags,
                    "dagster/run_key": request.run_key or "",
                    "dagster/partition": request.partition_key or "",
                },
            )
            launched.append(self.instance.add_run(run).run_id)
            register_run(self.registry.database_url, run, "gpu")
            self._say(run.run_id, status)
        return launched

    def _say(self, run_id: str, status: dg.DagsterRunStatus) -> None:
        """As the daemon, which follows runs."""
        states = {SUCCESS: "completed", FAILURE: "parked", STARTED: "running"}
        with engine_for(self.registry.database_url).begin() as connection:
            connection.execute(
                sa.update(jobs_table)
                .where(jobs_table.c.run_id == run_id)
                .values(state=states[status])
            )

    def until_quiet(self, status: dg.DagsterRunStatus = SUCCESS) -> list[dg.RunRequest]:
        """Ticks, with their runs launched, until nothing more happens; all the requests."""
        asked: list[dg.RunRequest] = []
        for _ in range(3):
            requests = self.tick()
            self.launch(requests, status)
            asked += requests
        assert self.tick() == []
        return asked

    def finish(self, run_id: str, status: dg.DagsterRunStatus) -> None:
        kind = dg.DagsterEventType.RUN_SUCCESS if status == SUCCESS else (
            dg.DagsterEventType.RUN_FAILURE
        )  # fmt: skip
        self.instance.report_dagster_event(
            dg.DagsterEvent(kind.value, "process_video", message="ended"), run_id=run_id
        )
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        assert run.status == status
        self._say(run_id, status)

    def row(self, tenant: str, name: str) -> VideoRow:
        return self.registry.of_tenant(tenant)[f"{tenant}/tailor/videos/{name}"]

    def make(self, row: VideoRow, *artifacts: str) -> None:
        """Artifacts as a run would have made them."""
        made = {}
        for name in artifacts:
            with self.store.making(row.partition_key, name) as draft:
                made[name] = draft.commit(
                    version=f"{name} of {row.checksum}",
                    details={"md5": row.checksum},
                    made_from={} if name == "video" else {"video": made["video"]},
                )


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    registry = VideoRegistry(url=f"sqlite:///{tmp_path / 'registry.db'}")
    registry.create_in_sqlite()
    with dg.DagsterInstance.ephemeral() as instance:
        yield Inbox(
            tmp_path / "drive", instance, registry, ArtifactStore(root=str(tmp_path / "artifacts"))
        )


def selected(request: dg.RunRequest) -> set[str] | None:
    selection = request.asset_selection
    return None if selection is None else {key.to_user_string() for key in selection}


def test_nothing_there_is_nothing_to_do(inbox: Inbox) -> None:
    assert inbox.tick() == []
    assert "Nothing new" in inbox.skipped


def test_two_tenants_videos_become_partitions_and_runs(inbox: Inbox) -> None:
    inbox.put("anna", "day 1", "one")
    inbox.put("ben", "day 1", "two")
    assert inbox.tick() == [], "one look is not enough to know that a file holds still"
    first, second = sorted(inbox.tick(), key=lambda request: request.tags["tailor/tenant"])
    assert [r.tags["tailor/tenant"] for r in (first, second)] == ["anna", "ben"]
    assert [r.tags["tailor/video"] for r in (first, second)] == ["day 1", "day 1"]
    assert selected(first) is None
    assert first.partition_key != second.partition_key
    assert first.run_key != second.run_key
    assert (first.run_key or "").startswith("anna/tailor/videos/day 1/v.mp4:")
    inbox.launch([first, second])
    assert inbox.tick() == []
    assert inbox.row("anna", "day 1").admitted_at is not None
    assert set(inbox.instance.get_dynamic_partitions("videos")) == {
        inbox.row("anna", "day 1").partition_key,
        inbox.row("ben", "day 1").partition_key,
    }


def test_a_file_that_is_still_being_copied_waits_until_it_holds_still(inbox: Inbox) -> None:
    for size in range(5):
        inbox.put("anna", "day", b"x" * size)
        assert inbox.tick() == []
    assert len(inbox.tick()) == 1
    assert inbox.row("anna", "day").size == 4


def test_a_tick_that_died_before_its_runs_were_launched_loses_nothing(inbox: Inbox) -> None:
    inbox.put("anna", "day", "one")
    inbox.tick()
    (lost,) = inbox.tick()
    (again,) = inbox.tick()
    assert again == lost
    inbox.launch([again])
    assert inbox.tick() == []


def test_a_run_is_asked_for_once_whatever_becomes_of_it(inbox: Inbox) -> None:
    inbox.put("anna", "day", "one")
    assert len(inbox.until_quiet(FAILURE)) == 1


def test_one_tick_asks_for_no_more_runs_and_partitions_than_its_cap(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors.drive_inbox, "JOBS_PER_TICK", 3)
    for number in range(7):
        inbox.put("anna", f"day {number}", f"{number}")
    inbox.tick()
    sizes, keys = [], set()
    while requests := inbox.tick():
        inbox.launch(requests)
        sizes.append(len(requests))
        keys |= {request.run_key for request in requests}
        assert len(inbox.instance.get_dynamic_partitions("videos")) == sum(sizes)
    assert sizes == [3, 3, 1]
    assert len(keys) == 7


def test_a_failed_listing_changes_nothing_and_nobody_elses(inbox: Inbox) -> None:
    inbox.put("anna", "day", "one")
    inbox.put("ben", "day", "two")
    inbox.until_quiet()
    before = inbox.row("anna", "day")
    videos = inbox.root / "anna" / "tailor" / "videos"
    hidden = videos.rename(videos.with_name("away"))
    videos.symlink_to(inbox.root / "ben" / "tailor" / "videos")
    inbox.put("ben", "day 2", "three")
    assert [r.tags["tailor/tenant"] for r in inbox.until_quiet()] == ["ben"]
    assert "anna: not looked at, nothing is changed" in inbox.skipped
    assert inbox.row("anna", "day") == before
    videos.unlink()
    hidden.rename(videos)
    assert inbox.tick() == []


def test_a_share_that_is_away_changes_nothing(inbox: Inbox) -> None:
    inbox.put("anna", "day", "one")
    inbox.until_quiet()
    away = inbox.root.rename(inbox.root.with_name("away"))
    assert inbox.tick() == []
    inbox.root.write_text("a stale mount")
    assert inbox.tick() == []
    assert "cannot be listed" in inbox.skipped
    inbox.root.unlink()
    away.rename(inbox.root)
    assert inbox.tick() == []


def test_a_folder_that_cannot_be_read_is_told_of_and_keeps_nobody_else_waiting(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.put("anna", "day", "one")
    inbox.until_quiet()
    before = inbox.row("anna", "day")
    inbox.put("anna", "private", "two")
    inbox.put("anna", "zoo", "three")
    scandir = os.scandir
    locked = {"day", "private"}  # tests may run as a user who may read everything

    def denied(path: Path | str) -> Iterator[os.DirEntry[str]]:
        if Path(path).name in locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(resources.local_drive.os, "scandir", denied)
    (request,) = inbox.until_quiet()
    assert request.partition_key == inbox.row("anna", "zoo").partition_key
    inbox.tick()
    assert "anna, private: The folder cannot be read (Permission denied)" in inbox.skipped
    assert inbox.row("anna", "day") == before
    locked.clear()
    (request,) = inbox.until_quiet()
    assert request.partition_key == inbox.row("anna", "private").partition_key


def test_a_video_whose_record_cannot_be_read_keeps_nobody_else_waiting(inbox: Inbox) -> None:
    inbox.put("anna", "day", "A")
    inbox.until_quiet()
    row = inbox.row("anna", "day")
    inbox.make(row, "video", "frames")
    inbox.put("anna", "day", '{"stride": 5}', "tailor.json")
    record = inbox.store.path(row.partition_key, "video.json")
    record.unlink()
    record.mkdir()
    inbox.put("ben", "day", "B")
    (request,) = inbox.until_quiet()
    assert request.tags["tailor/tenant"] == "ben"
    record.rmdir()
    (request,) = inbox.until_quiet()
    assert request.tags["tailor/tenant"] == "anna"


def test_a_key_that_is_another_folders_is_told_of_and_keeps_nobody_else_waiting(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32 bits of a hash are soon alike where somebody wants them to be."""
    make = sensors.inbox_changes.partition_key

    def alike(tenant: str, name: str, folder: str) -> str:
        return make(tenant, "one", "one") if name in ("a", "b") else make(tenant, name, folder)

    monkeypatch.setattr(sensors.inbox_changes, "partition_key", alike)
    for name in ("a", "b", "z"):
        inbox.put("anna", name, name)
    asked = inbox.until_quiet()
    assert {request.tags[VIDEO_TAG] for request in asked} == {"a", "z"}
    inbox.tick()
    assert "anna, b: " in inbox.skipped
    assert "another folder" in inbox.skipped


def test_a_touched_file_is_not_processed_again(inbox: Inbox) -> None:
    path = inbox.put("anna", "day", "one")
    inbox.until_quiet()
    os.utime(path, (1, 1))
    assert inbox.until_quiet() == []
    assert inbox.row("anna", "day").state == "admitted"


def test_a_file_replaced_and_put_back_is_processed_each_time(inbox: Inbox) -> None:
    """Put back with its old time and inode, too: the key must be new all the same."""
    path = inbox.put("anna", "day", "A")
    (first,) = inbox.until_quiet()
    kept = path.rename(path.with_name("kept.txt"))
    inbox.put("anna", "day", "B")
    (second,) = inbox.until_quiet()
    path.unlink()
    kept.rename(path)
    (third,) = inbox.until_quiet()
    assert len({first.run_key, second.run_key, third.run_key}) == 3
    assert len({first.partition_key, second.partition_key, third.partition_key}) == 1
    assert inbox.row("anna", "day").checksum in (third.run_key or "")


def test_a_video_that_is_being_processed_is_asked_for_again_when_that_run_has_ended(
    inbox: Inbox,
) -> None:
    inbox.put("anna", "day", "A")
    inbox.tick()
    (running,) = inbox.launch(inbox.tick(), STARTED)
    inbox.put("anna", "day", "B")
    assert [inbox.tick() for _ in range(4)] == [[]] * 4
    inbox.finish(running, SUCCESS)
    (request,) = inbox.tick()
    assert request.tags["tailor/video"] == "day"


def test_publishing_frames_does_not_hold_up_a_replaced_video(inbox: Inbox) -> None:
    inbox.put("anna", "day", "A")
    (first,) = inbox.until_quiet()
    inbox.instance.add_run(
        dg.DagsterRun(
            job_name="publish_frames",
            status=STARTED,
            tags={"dagster/partition": first.partition_key or ""},
        )
    )
    inbox.put("anna", "day", "B")
    assert len(inbox.until_quiet()) == 1


# tailor.json


def test_points_that_arrive_start_the_rest_without_the_frames(inbox: Inbox) -> None:
    inbox.put("anna", "day", "A")
    inbox.put("anna", "day", '{"template": "mouse_nest"}', "tailor.json")
    inbox.until_quiet()
    inbox.make(inbox.row("anna", "day"), "video", "frames")
    points = '{"template": "mouse_nest", "points": {"nest": [1, 2]}}'
    inbox.put("anna", "day", points, "tailor.json")
    (request,) = inbox.until_quiet()
    assert selected(request) == FROM_PROMPTS
    assert inbox.row("anna", "day").sidecar_text == points


def test_a_correcting_point_starts_the_rest_and_a_wrong_one_holds_the_video_back(
    inbox: Inbox,
) -> None:
    inbox.put("anna", "day", "A")
    inbox.put("anna", "day", '{"points": {"mouse": [1, 2]}}', "tailor.json")
    inbox.until_quiet()
    inbox.make(inbox.row("anna", "day"), "video", "frames")
    inbox.put("anna", "day", '{"points": {"mouse": [[1, 2], [1, 2, 0]]}}', "tailor.json")
    assert inbox.until_quiet() == []
    assert "(1, 2) is given twice" in (inbox.row("anna", "day").problem or "")
    inbox.put("anna", "day", '{"points": {"mouse": [[1, 2], [3, 4, 90]]}}', "tailor.json")
    (request,) = inbox.until_quiet()
    assert selected(request) == FROM_PROMPTS
    assert inbox.row("anna", "day").problem is None


def test_another_sampling_makes_the_frames_again(inbox: Inbox) -> None:
    inbox.put("anna", "day", "A")
    inbox.until_quiet()
    inbox.make(inbox.row("anna", "day"), "video", "frames")
    inbox.put("anna", "day", '{"stride": 5}', "tailor.json")
    (request,) = inbox.until_quiet()
    assert selected(request) == FROM_FRAMES


def test_points_that_choose_a_template_with_a_rate_of_its_own_make_the_frames_again(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "templates.toml"
    own.write_text(
        '[feeder]\nfeature_set = "mouse"\nfps = 5\n'
        'objects = [{name = "mouse", kind = "animal"}, {name = "feeder", kind = "nest"}]\n'
    )
    monkeypatch.setenv("TAILOR_TEMPLATES", str(own))
    inbox.put("anna", "day", "A")
    inbox.until_quiet()
    inbox.make(inbox.row("anna", "day"), "video", "frames")
    inbox.put("anna", "day", '{"points": {"mouse": [1, 2]}}', "tailor.json")
    (request,) = inbox.until_quiet()
    assert selected(request) == FROM_PROMPTS
    both = '{"points": {"mouse": [1, 2], "feeder": [3, 4]}}'
    inbox.put("anna", "day", both, "tailor.json")
    (request,) = inbox.until_quiet()
    assert selected(request) == FROM_FRAMES


def test_tailor_json_that_goes_and_comes_and_goes_starts_a_run_each_time(inbox: Inbox) -> None:
    inbox.put("anna", "day", "A")
    inbox.until_quiet()
    inbox.make(inbox.row("anna", "day"), "video", "frames")
    keys = []
    for _ in range(3):
        path = inbox.put("anna", "day", '{"px_per_cm": 10}', "tailor.json")
        os.utime(path, (1, 1))
        keys += [request.run_key for request in inbox.until_quiet()]
        path.unlink()
        keys += [request.run_key for request in inbox.until_quiet()]
    assert len(set(keys)) == 6


def test_tailor_json_touched_or_laid_out_anew_at_its_ends_starts_nothing(inbox: Inbox) -> None:
    inbox.put("anna", "day", "A")
    inbox.put("anna", "day", '{"stride": 5}', "tailor.json")
    inbox.until_quiet()
    inbox.put("anna", "day", '{"stride": 5}\n', "tailor.json")
    assert inbox.until_quiet() == []


def test_points_that_arrive_before_there_are_frames_start_the_whole(inbox: Inbox) -> None:
    """The first run failed, perhaps for the very tailor.json that is now mended."""
    inbox.put("anna", "day", "A")
    inbox.put("anna", "day", '{"points": {"hamster": [1, 2]}}', "tailor.json")
    inbox.until_quiet(FAILURE)
    inbox.put("anna", "day", '{"points": {"mouse": [1, 2]}}', "tailor.json")
    (request,) = inbox.until_quiet(FAILURE)
    assert selected(request) is None
    inbox.make(inbox.row("anna", "day"), "video")
    inbox.put("anna", "day", '{"points": {"mouse": [3, 4]}}', "tailor.json")
    (request,) = inbox.until_quiet()
    assert selected(request) == FROM_FRAMES


def test_points_for_a_video_whose_working_copy_is_of_an_older_file_start_the_whole(
    inbox: Inbox,
) -> None:
    inbox.put("anna", "day", "A")
    inbox.until_quiet()
    inbox.make(inbox.row("anna", "day"), "video", "frames")
    inbox.put("anna", "day", "B")
    inbox.until_quiet(FAILURE)
    inbox.put("anna", "day", '{"points": {"mouse": [1, 2]}}', "tailor.json")
    (request,) = inbox.until_quiet()
    assert selected(request) is None


def test_what_an_unseen_run_was_to_make_is_made_by_the_next(inbox: Inbox) -> None:
    """Sampling changed, then points, before any run of the first change could start."""
    inbox.put("anna", "day", "A")
    inbox.tick()
    (running,) = inbox.launch(inbox.tick(), STARTED)
    inbox.tick()
    inbox.make(inbox.row("anna", "day"), "video", "frames")
    inbox.put("anna", "day", '{"stride": 5}', "tailor.json")
    inbox.tick()
    inbox.put("anna", "day", '{"stride": 5, "points": {"mouse": [1, 2]}}', "tailor.json")
    inbox.tick()
    inbox.finish(running, SUCCESS)
    (request,) = inbox.tick()
    assert selected(request) == FROM_FRAMES


def test_what_changes_while_a_job_waits_to_be_admitted_is_made_by_that_job(inbox: Inbox) -> None:
    inbox.put("anna", "day", "A")
    inbox.until_quiet()
    inbox.make(inbox.row("anna", "day"), "video", "frames")
    inbox.put("anna", "day", '{"stride": 5}', "tailor.json")
    (first,) = inbox.tick()
    assert selected(first) == FROM_FRAMES
    inbox.put("anna", "day", '{"stride": 5, "points": {"mouse": [1, 2]}}', "tailor.json")
    (then,) = inbox.tick()
    assert selected(then) == FROM_FRAMES, "the frames are to be made, too"
    assert then.tags["tailor/job"] == first.tags["tailor/job"], "it keeps its place"
    inbox.launch([then])
    assert inbox.tick() == []


def test_a_bad_tailor_json_holds_its_video_back_and_says_why_until_it_is_mended(
    inbox: Inbox,
) -> None:
    inbox.put("anna", "day", "A")
    inbox.put("anna", "day", "{stride: 5", "tailor.json")
    inbox.put("ben", "day", "B")
    (ben,) = inbox.until_quiet()
    assert ben.tags["tailor/tenant"] == "ben"
    assert "anna, day: tailor.json is not valid JSON" in inbox.skipped
    assert "not valid JSON" in (inbox.row("anna", "day").problem or "")
    inbox.put("anna", "day", '{"stride": 5}', "tailor.json")
    assert len(inbox.until_quiet()) == 1
    assert inbox.row("anna", "day").problem is None


def test_a_bad_tailor_json_of_a_processed_video_is_said_and_forgotten_when_it_goes(
    inbox: Inbox,
) -> None:
    inbox.put("anna", "day", "A")
    inbox.until_quiet()
    path = inbox.put("anna", "day", '{"\\u0000": "\\ud800"}', "tailor.json")
    assert inbox.until_quiet() == []
    assert "tailor.json is not valid" in inbox.skipped
    path.unlink()
    assert inbox.until_quiet() == []
    assert inbox.row("anna", "day").problem is None


# Hostile and enormous things


HOSTILE = [
    "new\nline",
    "'; DROP TABLE tailor.videos; --",
    "käfig 🐭",
    "%2e%2e",
    "$(x)",
    "a:b",
    "a_b",
]


def test_hostile_names_become_partitions_like_any_other(inbox: Inbox) -> None:
    for name in HOSTILE:
        inbox.put("anna", name, name)
        inbox.put(name, name, name)
    latin = os.fsencode(inbox.root / "anna" / "tailor" / "videos") + b"/K\xe4fig"
    os.mkdir(latin)
    Path(os.fsdecode(latin + b"/v.mp4")).write_text("latin")
    requests = inbox.until_quiet()
    assert len({request.partition_key for request in requests}) == 2 * len(HOSTILE) + 1
    results = [row.results_name for row in inbox.registry.of_tenant("anna").values()]
    assert len({name.casefold() for name in results}) == len(results)


def test_hostile_names_are_taken_by_postgresql_too(inbox: Inbox, postgres_url: str) -> None:
    migrate(postgres_url)
    inbox.registry = VideoRegistry(url=postgres_url)
    try:
        for name in HOSTILE:
            inbox.put("anna", name, name)
        latin = os.fsencode(inbox.root / "anna" / "tailor" / "videos") + b"/K\xe4fig"
        os.mkdir(latin)
        Path(os.fsdecode(latin + b"/v.mp4")).write_text("latin")
        assert len(inbox.until_quiet()) == len(HOSTILE) + 1
        path = inbox.put("anna", "a:b", '{"\\u0000": "\\ud800"}', "tailor.json")
        assert inbox.until_quiet() == []
        path.unlink()
        shutil.rmtree(inbox.root / "anna" / "tailor" / "videos" / "a_b")
        assert inbox.until_quiet() == []
    finally:
        engine = sa.create_engine(postgres_url)
        with engine.begin() as connection:
            for table in (videos_table, jobs_table):
                connection.execute(sa.delete(table))
        engine.dispose()


def test_two_videos_in_one_folder_are_said(inbox: Inbox) -> None:
    inbox.put("anna", "day", "A")
    inbox.put("anna", "day", "B", "w.mp4")
    assert inbox.tick() == []
    assert "holds 2 videos" in inbox.skipped
    assert inbox.row("anna", "day").state == "rejected"


def test_a_tick_without_any_time_left_still_gets_on_with_every_tenant(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As when listing the Drives of those before takes all of it, tick after tick.
    monkeypatch.setattr(sensors.drive_inbox, "SECONDS_PER_TICK", 0.0)
    monkeypatch.setattr(resources.local_drive, "_BLOCK", 1 << 10)
    inbox.put("anna", "long", os.urandom(20 << 10))
    inbox.put("ben", "short", "B")
    inbox.put("ben", "shorter", "C")
    ticks: list[str] = []
    for number in range(40):
        requests = inbox.tick()
        inbox.launch(requests)
        ticks += [f"{request.tags['tailor/tenant']} {number}" for request in requests]
    assert [tick.split()[0] for tick in ticks] == ["ben", "ben", "anna"]
    assert int(ticks[-1].split()[1]) < 30


def test_a_file_too_large_to_read_in_one_tick_is_read_over_several(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources.local_drive, "_BLOCK", 1 << 10)
    monkeypatch.setattr(sensors.drive_inbox, "SECONDS_PER_TICK", 0.002)
    inbox.put("anna", "long", os.urandom(8 << 20))
    inbox.put("ben", "short", "B")
    ticks = 0
    tenants: list[str] = []
    while len(tenants) < 2:
        requests = inbox.tick()
        inbox.launch(requests)
        tenants += [request.tags["tailor/tenant"] for request in requests]
        ticks += 1
        assert ticks < 2000
    assert tenants == ["ben", "anna"], "one tenant's large file does not hold up another's"
    assert ticks > 3
