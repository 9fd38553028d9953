"""The SAM2 worker: its GPU lock anywhere, its masks (marked `sam2`) in its own environment."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from resources.sam2_client import remove_old_checkpoints
from resources.segmenter import EngineSettings, SegmentationRequest, Segmenter
from resources.settings import PROJECT_ROOT, load_settings
from resources.worker_process import worker_environment
from sam2_worker.gpu_lock import hold_a_gpu
from sam2_worker.request import DeviceInUse
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.prompts import ObjectKind, ObjectPrompt

HOLD = (
    "import sys, time; from sam2_worker.gpu_lock import hold_a_gpu\n"
    "with hold_a_gpu(sys.argv[1], ['GPU-a'], print):\n"
    "    print('held', flush=True); time.sleep(120)"
)
OBJECTS: list[tuple[str, ObjectKind]] = [
    ("mouse", "animal"),
    ("nest", "nest"),
    ("rat", "animal"),
    ("stranger", "animal"),
]


def _holder(folder: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], env=worker_environment(), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_checkpoint_that_goes_while_old_ones_are_looked_for_stops_nobody(tmp_path: Path) -> None:
    """Another run replaces its own at any time: a link to nothing stands for that moment."""
    for name in ("busy", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checkpoint.pt").write_bytes(b"x")
    (tmp_path / "busy" / ".checkpoint.pt").symlink_to(tmp_path / "replaced")
    weeks_ago = time.time() - 30 * 86_400
    for path in (tmp_path / "old" / "checkpoint.pt", tmp_path / "old"):
        os.utime(path, (weeks_ago, weeks_ago))
    remove_old_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["busy"]


def test_a_second_worker_waits_for_the_gpu_says_so_and_gets_it_when_the_first_is_killed(
    tmp_path: Path,
) -> None:
    with _holder(tmp_path) as holder:
        said: list[str] = []

        def say(text: str) -> None:
            said.append(text)
            holder.kill()  # kill -9: nothing of its own code lets go of the lock

        started = time.monotonic()
        with hold_a_gpu(tmp_path, ["GPU-a"], say) as place:
            assert place == 0
        assert time.monotonic() - started < 5
    assert len(said) == 1
    assert f"GPU-a by process {holder.pid}" in said[0]


def test_a_worker_takes_the_free_gpu_of_two(tmp_path: Path) -> None:
    with _holder(tmp_path) as holder:
        with hold_a_gpu(tmp_path, ["GPU-a", "GPU-b"], pytest.fail) as place:
            assert place == 1
        holder.kill()


@pytest.fixture(scope="module")
def sam2_python() -> Iterator[Path]:
    """Python of the SAM2 environment; one thread, which busy cores slow down least."""
    python = load_settings().sam2_python
    if not python.exists():
        pytest.skip(f"the SAM2 environment is not here ({python}): run `make sam2`")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield python


@pytest.fixture(scope="module")
def reference(sam2_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TAILOR_HOME with a small random model, a video, and the official predictor's masks."""
    folder = tmp_path_factory.mktemp("reference")
    script = PROJECT_ROOT / "tests" / "official_sam2_reference.py"
    quiet = {"TQDM_DISABLE": "1"}
    subprocess.run([sam2_python, script, folder], env=worker_environment() | quiet, check=True)
    return folder


SCENARIO = [
    ObjectPrompt("mouse", "animal", 80.0, 90.0, 0, "run config"),
    ObjectPrompt("mouse", "animal", 150.0, 60.0, 61, "run config"),
    ObjectPrompt("mouse", "animal", 156.0, 62.0, 61, "run config"),
    ObjectPrompt("nest", "nest", 250.0, 60.0, 0, "run config"),
    ObjectPrompt("rat", "animal", 160.0, 150.0, 45, "run config"),
]
# In every frame every object, and nothing judged: what the official predictor does.
EXACT = EngineSettings(drift_guard=False, refind=False, nest_every=1, checkpoint_frames=40)


def _segment(
    reference: Path,
    python: Path,
    masks_path: Path,
    *,
    name: str = "calm",
    on_progress: Callable[[int, int], None] | None = None,
    on_device: Callable[[DeviceInUse], None] | None = None,
) -> dict[str, Any]:
    frames = np.arange(120)
    request = SegmentationRequest(
        video_path=reference / "video.mp4",
        masks_path=masks_path,
        source_frames=frames,
        timestamps_s=frames / 30,
        height=192,
        width=320,
        objects=OBJECTS,
        prompts=SCENARIO,
        engine=EXACT,
    )
    outcome: dict[str, Any] = {}

    @dg.asset
    def masks(
        context: dg.AssetExecutionContext, segmenter: Segmenter
    ) -> dg.MaterializeResult[None]:
        outcome.update(segmenter.segment(context, name, request, on_progress, on_device))
        return dg.MaterializeResult()

    segmenter = Segmenter(home=str(reference), sam2_python=str(python), device="cpu", linger_s=0.0)
    dg.materialize([masks], resources={"segmenter": segmenter})
    return outcome


@dataclass(frozen=True)
class Uninterrupted:
    """The scenario, done once without an interruption."""

    masks: Path
    metadata: dict[str, Any]
    devices: list[DeviceInUse]
    left_beside: list[str]


@pytest.fixture(scope="module")
def uninterrupted(
    reference: Path, sam2_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Uninterrupted:
    """What the worker makes of the scenario."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    devices: list[DeviceInUse] = []
    metadata = _segment(reference, sam2_python, folder / "masks.npz", on_device=devices.append)
    return Uninterrupted(folder / "masks.npz", metadata, devices, os.listdir(folder))


@pytest.mark.sam2
def test_the_worker_writes_the_official_masks_forward_and_backward(
    reference: Path, uninterrupted: Uninterrupted
) -> None:
    official = np.load(reference / "reference.npz")
    with MaskReader(uninterrupted.masks) as reader:
        assert reader.segmenter == "calm"
        assert reader.objects == tuple(name for name, _ in OBJECTS)
        for name in ("mouse", "nest", "rat"):
            area, score = reader.area(name), reader.score(name)
            assert (area > 0).sum() > 20, "the test would compare little"
            assert (score[area > 0] > 0.5).all()
            assert (score <= 1).all()
            sure, differing = official[f"{name}_sure"], 0
            for row, mask in reader.iter_masks(name):
                other = mask != official[name][row]
                assert not (other & sure[row]).any(), f"{name} in frame {row}"
                differing += int(other.sum())
            assert differing < 1e-6 * sure.size
            states = set(reader.state(name).tolist())
            assert states <= {MaskState.TRACKED, MaskState.LOST}
            assert ((reader.state(name) == MaskState.LOST) == (area == 0)).all()
        # The rat was clicked in frame 45 and followed from there to the first frame as well.
        assert (reader.area("rat")[:45] > 0).any()
        assert set(reader.state("stranger").tolist()) == {MaskState.NOT_STARTED}
        assert not reader.area("stranger").any()


@pytest.mark.sam2
def test_the_worker_says_how_it_went(uninterrupted: Uninterrupted, reference: Path) -> None:
    metadata = uninterrupted.metadata
    assert metadata["frames"] == 120
    assert metadata["frames_tracked"] == 120 + 46
    assert metadata["precision"] == "fp32"
    assert metadata["frames_per_second"] > 0
    assert metadata["resumed"] is False
    assert metadata["worker_restarts"] == 0
    assert metadata["memory_reductions"] == []
    assert (metadata["gpu_uuid"], metadata["gpu_name"]) == (None, "cpu")
    assert metadata["gpu_wait_seconds"] < 5
    assert uninterrupted.devices == [DeviceInUse(None, "cpu", metadata["gpu_wait_seconds"])]
    busy = metadata["stages_busy"]
    assert {"resize", "encode", "track", "pack", "write"} <= set(busy)
    assert all(0 <= share <= 1 for share in busy.values())
    # Of the work nothing is left.
    assert uninterrupted.left_beside == ["masks.npz"]
    assert list((reference / "checkpoints").iterdir()) == []


def _children() -> list[int]:
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


@pytest.mark.sam2
@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker's process in /proc")
def test_a_worker_that_is_killed_is_started_again_and_goes_on(
    reference: Path, sam2_python: Path, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    seen: list[int] = []
    killed: list[int] = []

    def kill_once(done: int, total: int) -> None:
        assert total == 120
        seen.append(done)
        if not killed and done > 30:
            (worker,) = (
                pid
                for pid in _children()
                if b"sam2_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
            )
            os.kill(worker, signal.SIGKILL)
            killed.append(done)

    metadata = _segment(reference, sam2_python, tmp_path / "masks.npz", on_progress=kill_once)
    assert killed, f"it was done before it could be killed: {seen}"
    assert metadata["worker_restarts"] == 1
    assert metadata["resumed"]
    # At most checkpoint_frames of what was written before the kill.
    assert metadata["frames_tracked"] <= 120 - killed[0] + EXACT.checkpoint_frames
    assert (tmp_path / "masks.npz").read_bytes() == uninterrupted.masks.read_bytes()
    assert os.listdir(tmp_path) == ["masks.npz"]


@pytest.mark.sam2
def test_a_cancelled_run_leaves_no_file_and_the_next_one_goes_on_where_it_was(
    reference: Path, sam2_python: Path, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    def interrupt(done: int, total: int) -> None:
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        _segment(reference, sam2_python, tmp_path / "masks.npz", on_progress=interrupt)
    assert os.listdir(tmp_path) == []
    metadata = _segment(reference, sam2_python, tmp_path / "masks.npz")
    assert metadata["resumed"]
    assert metadata["frames_tracked"] < 120, "the backward pass is done, and some frames more"
    assert (tmp_path / "masks.npz").read_bytes() == uninterrupted.masks.read_bytes()


@pytest.mark.sam2
def test_bad_weights_fail_once_and_say_why(
    reference: Path, sam2_python: Path, tmp_path: Path
) -> None:
    with pytest.raises(PermanentProblem, match="is not a SAM2 checkpoint"):
        _segment(reference, sam2_python, tmp_path / "masks.npz", name="cut")
    assert os.listdir(tmp_path) == []


OFFICIAL_CONFIGS = """
import sys, torch
from sam2.build_sam import build_sam2_video_predictor
from sam2_worker.model_loading import load_model
from sam2_worker.request import ModelSpec
config, path = "configs/sam2.1/sam2.1_hiera_t.yaml", sys.argv[1]
torch.manual_seed(0)
theirs = build_sam2_video_predictor(config, device="cpu")
torch.save({"model": theirs.state_dict()}, path)
ours = load_model(ModelSpec("tiny", config, path), torch.device("cpu"))
assert not ours.training and type(ours) is type(theirs)
assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())
def plain(module):
    return {k: v for k, v in vars(module).items() if isinstance(v, (int, float, str, bool, dict))
            and not k.startswith("_")}
differing = {
    f"{name}.{key}"
    for (name, mine), (_, other) in zip(ours.named_modules(), theirs.named_modules(), strict=True)
    for key in plain(mine) | plain(other)
    if plain(mine).get(key) != plain(other).get(key)
}
assert differing == {".fill_hole_area"}, differing
small = load_model(ModelSpec("tiny", config, path, image_size=256), torch.device("cpu"))
assert small.image_size == 256
"""


@pytest.mark.sam2
def test_an_official_model_is_built_as_the_official_builder_does(
    sam2_python: Path, tmp_path: Path
) -> None:
    subprocess.run(
        [sam2_python, "-c", OFFICIAL_CONFIGS, tmp_path / "tiny.pt"],
        env=worker_environment(),
        check=True,
    )
