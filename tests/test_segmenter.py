"""The segmenter resource and the Pipes launcher: real processes, real Pipes messages, no torch."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import dagster as dg
import numpy as np
import psutil
import pytest
from one_step import in_a_step

from resources.process_group import end_process_group, start_process_group
from resources.sam2_client import WorkerDied, run_worker, run_worker_until_done
from resources.segmenter import SegmentationRequest, Segmenter
from resources.settings import PROJECT_ROOT
from resources.worker_process import worker_environment
from sam2_worker.request import Click, DeviceInUse, ModelSpec, WorkerRequest
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.prompts import ObjectPrompt

# A worker, its child, and a grandchild that left the worker's session. All shrug off SIGTERM.
STUBBORN_FAMILY = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 2:
    for session in (False, True):
        subprocess.Popen([sys.executable, __file__, sys.argv[1], "child"], start_new_session=session)
(pathlib.Path(sys.argv[1]) / str(os.getpid())).touch()
time.sleep(120)
"""


def _wait_for(condition: Callable[[], Any], timeout_s: float = 20.0) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, "it did not happen in time"
        time.sleep(0.05)
    return time.monotonic() - started


def _alive(pids: list[int]) -> list[int]:
    def lives(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [pid for pid in pids if lives(pid)]


def _pids(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()]


def _script(folder: Path, text: str) -> list[str]:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    return [sys.executable, str(path)]


def _request(folder: Path) -> WorkerRequest:
    return WorkerRequest(
        video_path="video.mp4",
        identity="a video",
        masks_path=str(folder / "masks.npz"),
        frame_table="frames.npz",
        height=48,
        width=64,
        objects=(("mouse", "animal"), ("nest", "nest")),
        clicks=(Click("mouse", 3.0, 4.5, 0, guessed=True),),
        model=ModelSpec("small", "small.yaml", "small.pt"),
        device="cpu",
        locks_folder=str(folder),
        checkpoint_folder=str(folder / "checkpoint"),
    )


def _segmentation(folder: Path) -> SegmentationRequest:
    return SegmentationRequest(
        video_path=folder / "video.mp4",
        masks_path=folder / "masks.npz",
        source_frames=np.arange(3),
        timestamps_s=np.arange(3) / 30,
        height=48,
        width=64,
        objects=[("mouse", "animal")],
        prompts=[ObjectPrompt("mouse", "animal", 10.0, 10.0, 0, "run config")],
    )


def test_ending_a_process_group_ends_children_that_ignore_sigterm_or_left_the_session(
    tmp_path: Path,
) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    command = [*_script(tmp_path, STUBBORN_FAMILY), str(seen)]
    process = start_process_group(command, env=os.environ)
    _wait_for(lambda: len(_pids(seen)) == 3)
    started = time.monotonic()
    end_process_group(process, grace_s=1.0)
    assert time.monotonic() - started < 4
    assert _alive(_pids(seen)) == []


def test_ending_a_process_group_after_its_leader_exited_ends_what_it_left_behind(
    tmp_path: Path,
) -> None:
    command = _script(
        tmp_path,
        """
        import subprocess, sys, pathlib
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
        pathlib.Path(sys.argv[1]).write_text(str(child.pid))
        """,
    )
    process = start_process_group([*command, str(tmp_path / "pid")], env=os.environ)
    assert process.wait(timeout=20) == 0
    child = int((tmp_path / "pid").read_text())
    assert _alive([child])
    end_process_group(process)
    assert _alive([child]) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_run_kills_the_whole_process_tree_within_ten_seconds(
    tmp_path: Path, number: signal.Signals
) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    family = tmp_path / "family.py"
    family.write_text(STUBBORN_FAMILY)
    run = _script(
        tmp_path,
        f"""
        import sys
        import dagster as dg
        from resources.sam2_client import run_worker

        @dg.asset
        def masks(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            run_worker(context, [sys.executable, {str(family)!r}, {str(seen)!r}], {{}})
            return dg.MaterializeResult()

        dg.materialize([masks])
        """,
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    process = subprocess.Popen(run, env=environment, stderr=subprocess.DEVNULL)
    _wait_for(lambda: len(_pids(seen)) == 3, timeout_s=60)
    started = time.monotonic()
    process.send_signal(number)
    _wait_for(lambda: not _alive(_pids(seen)), timeout_s=10)
    assert process.wait(timeout=10) != 0
    assert time.monotonic() - started < 10


def test_a_worker_dies_with_a_run_process_that_was_killed(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, pathlib, sys, time\n"
        "from sam2_worker.parent_watch import die_with_parent\n"
        "die_with_parent()\n"
        "pathlib.Path(sys.argv[1], str(os.getpid())).touch()\n"
        "time.sleep(120)\n"
    )
    seen = tmp_path / "seen"
    seen.mkdir()
    run = _script(
        tmp_path,
        f"""
        import sys, time
        from resources.process_group import start_process_group
        from resources.worker_process import worker_environment
        command = [sys.executable, {str(worker)!r}, {str(seen)!r}]
        process = start_process_group(command, env=worker_environment())
        time.sleep(120)
        """,
    )
    process = subprocess.Popen(run, env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)})
    _wait_for(lambda: _pids(seen), timeout_s=60)
    assert _alive(_pids(seen))
    process.kill()
    process.wait()
    assert _wait_for(lambda: not _alive(_pids(seen)), timeout_s=5) < 5


def test_a_worker_reads_the_end_of_its_standard_input_as_its_parents_death(tmp_path: Path) -> None:
    code = (
        "import time; from sam2_worker.parent_watch import die_with_parent; die_with_parent();"
        "print('up', flush=True); time.sleep(120)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=worker_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.stdin.close()
    assert process.wait(timeout=5) == -signal.SIGKILL
    process.stdout.close()


def test_messages_and_progress_of_a_worker_arrive(tmp_path: Path) -> None:
    command = _script(
        tmp_path,
        """
        from dagster_pipes import open_dagster_pipes
        with open_dagster_pipes() as pipes:
            pipes.log.info("two frames of " + pipes.get_extra("video_path"))
            pipes.report_custom_message(
                {"kind": "device", "gpu_uuid": "GPU-1", "gpu_name": "A card", "waited_s": 0.5}
            )
            for done in (1, 2):
                pipes.report_custom_message({"kind": "progress", "done": done, "total": 2})
            pipes.report_custom_message({"kind": "result", "metadata": {"frames": 2}})
        """,
    )
    ticks: list[tuple[int, int]] = []
    devices: list[DeviceInUse] = []

    def body(context: dg.AssetExecutionContext) -> Mapping[str, Any]:
        return run_worker_until_done(
            context,
            command,
            _request(tmp_path),
            max_restarts=0,
            on_progress=lambda done, total: ticks.append((done, total)),
            on_device=devices.append,
        )

    assert in_a_step(body) == {"frames": 2, "worker_restarts": 0, "worker_reused": False}
    assert ticks == [(1, 2), (2, 2)]
    assert devices == [DeviceInUse("GPU-1", "A card", 0.5)]


DIES_UNTIL = """
import os, pathlib, signal, sys
from dagster_pipes import open_dagster_pipes
starts = pathlib.Path(sys.argv[1])
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
with open_dagster_pipes() as pipes:
    if len(starts.read_text()) < int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    pipes.report_custom_message({"kind": "result", "metadata": {}})
"""


def test_a_worker_that_died_alone_is_started_again_within_the_step(tmp_path: Path) -> None:
    command = [*_script(tmp_path, DIES_UNTIL), str(tmp_path / "starts"), "2"]
    metadata = in_a_step(
        lambda context: run_worker_until_done(context, command, _request(tmp_path), max_restarts=2)
    )
    assert metadata["worker_restarts"] == 1


def test_a_worker_that_dies_every_time_is_given_up_with_its_signal_named(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    command = [*_script(tmp_path, DIES_UNTIL), str(starts), "99"]
    with pytest.raises(WorkerDied, match=r"died 2 times.*SIGKILL"):
        in_a_step(
            lambda context: run_worker_until_done(
                context, command, _request(tmp_path), max_restarts=1
            )
        )
    assert starts.read_text() == "xx"


def test_a_permanent_problem_of_the_worker_is_raised_once_and_not_retried(tmp_path: Path) -> None:
    message = {"kind": "permanent_problem", "sentence": "The weights are bad."}
    starts = tmp_path / "starts"
    command = _script(
        tmp_path,
        f"""
        import sys
        from dagster_pipes import open_dagster_pipes
        open({str(starts)!r}, "a").write("x")
        with open_dagster_pipes() as pipes:
            pipes.report_custom_message({message!r})
        sys.exit(2)
        """,
    )
    with pytest.raises(PermanentProblem, match=r"The weights are bad\."):
        in_a_step(
            lambda context: run_worker_until_done(
                context, command, _request(tmp_path), max_restarts=2
            )
        )
    assert starts.read_text() == "x"


def test_an_error_in_the_launching_step_leaves_no_worker(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    command = _script(
        tmp_path,
        f"""
        import os, pathlib, time
        from dagster_pipes import open_dagster_pipes
        with open_dagster_pipes() as pipes:
            pathlib.Path({str(seen)!r}, str(os.getpid())).touch()
            pipes.report_custom_message({{"kind": "progress", "done": 1, "total": 9}})
            time.sleep(120)
        """,
    )

    def broken_bar(done: int, total: int) -> None:
        raise RuntimeError("the bar broke")

    with pytest.raises(RuntimeError, match="the bar broke"):
        in_a_step(lambda context: run_worker(context, command, {}, on_progress=broken_bar))
    assert len(_pids(seen)) == 1
    assert _alive(_pids(seen)) == []


def test_the_request_survives_its_way_through_pipes(tmp_path: Path) -> None:
    request = _request(tmp_path)
    assert WorkerRequest.from_extras(json.loads(json.dumps(request.to_extras()))) == request


def _write_video(path: Path) -> None:
    rng = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        rows, cols = np.mgrid[:120, :160]
        for t in range(40):
            picture = 170 + rng.normal(0, 3, (120, 160))
            picture[(rows - 60) ** 2 + (cols - 30 - 2.5 * t) ** 2 < 12**2] = 60
            rgb = np.repeat(picture.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())


def test_the_background_segmenter_writes_the_masks_in_this_process(tmp_path: Path) -> None:
    _write_video(tmp_path / "video.mp4")
    ticks: list[tuple[int, int]] = []
    request = SegmentationRequest(
        video_path=tmp_path / "video.mp4",
        masks_path=tmp_path / "masks.npz",
        source_frames=np.arange(0, 40, 2),
        timestamps_s=np.arange(0, 40, 2) / 30,
        height=120,
        width=160,
        objects=[("mouse", "animal"), ("nest", "nest")],
        prompts=[ObjectPrompt("mouse", "animal", 30.0, 60.0, 0, "run config")],
    )
    metadata = Segmenter(home=str(tmp_path)).segment(
        dg.build_asset_context(), "background", request, lambda *tick: ticks.append(tick)
    )
    assert metadata["segmenter"] == "background"
    assert metadata["frames"] == 20
    assert ticks[-1] == (20, 20)
    with MaskReader(tmp_path / "masks.npz") as reader:
        assert reader.objects == ("mouse", "nest")
        truth = np.column_stack([np.full(20, 60.0), 30 + 5.0 * np.arange(20)])
        assert np.abs(reader.centroid("mouse") - truth).max() < 6
        assert (reader.area("nest") == 0).all(), "nobody pointed at a nest"


def test_a_point_for_an_object_that_the_template_lacks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "sam2.1_hiera_tiny.pt").touch()
    request = replace(
        _segmentation(tmp_path), prompts=[ObjectPrompt("cat", "animal", 1.0, 1.0, 0, "run config")]
    )
    with pytest.raises(PermanentProblem, match=r"'cat'.*name one of mouse"):
        Segmenter(home=str(tmp_path)).segment(
            dg.build_asset_context(), "sam2.1-hiera-tiny", request
        )


def test_a_video_without_an_animal_has_empty_masks_and_starts_no_worker(tmp_path: Path) -> None:
    request = replace(_segmentation(tmp_path), prompts=[])
    segmenter = Segmenter(home=str(tmp_path), sam2_python=str(tmp_path / "nowhere" / "python"))
    report = segmenter.segment(dg.build_asset_context(), "tailor-nano", request)
    assert report["frames_tracked"] == 0
    with MaskReader(request.masks_path) as reader:
        assert reader.source_frame.tolist() == list(request.source_frames)
        for name, _ in request.objects:
            assert not reader.area(name).any()
            assert {MaskState(state) for state in reader.state(name)} == {MaskState.LOST}


def test_an_unknown_segmenter_is_refused_with_the_known_names(tmp_path: Path) -> None:
    segmenter = Segmenter(home=str(tmp_path))
    with pytest.raises(PermanentProblem, match=r"no segmenter 'sam9'.*background.*sam2\.1-hiera-t"):
        segmenter.segment(dg.build_asset_context(), "sam9", _segmentation(tmp_path))


def test_missing_weights_are_named_with_their_place_and_checksum(tmp_path: Path) -> None:
    segmenter = Segmenter(home=str(tmp_path))
    with pytest.raises(PermanentProblem) as problem:
        segmenter.segment(dg.build_asset_context(), "sam2.1-hiera-tiny", _segmentation(tmp_path))
    sentence = str(problem.value)
    assert str(tmp_path / "models" / "sam2.1_hiera_tiny.pt") in sentence
    assert "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69" in sentence


def test_a_missing_sam2_environment_is_one_sentence_that_says_make_sam2(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "sam2.1_hiera_tiny.pt").touch()
    segmenter = Segmenter(home=str(tmp_path), sam2_python=str(tmp_path / "nowhere" / "python"))
    with pytest.raises(PermanentProblem, match="run `make sam2`"):
        segmenter.segment(dg.build_asset_context(), "sam2.1-hiera-tiny", _segmentation(tmp_path))
