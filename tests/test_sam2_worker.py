"""The SAM2 worker: its GPU lock anywhere, its masks (marked `sam2`) in its own environment."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from resources.sam2_client import worker_environment
from resources.segmenter import SegmentationRequest, Segmenter
from resources.settings import PROJECT_ROOT, load_settings
from sam2_worker.gpu_lock import hold_a_gpu
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.prompts import ObjectPrompt

HOLD = (
    "import sys, time; from sam2_worker.gpu_lock import hold_a_gpu\n"
    "with hold_a_gpu(sys.argv[1], ['GPU-a'], print):\n"
    "    print('held', flush=True); time.sleep(120)"
)
OBJECTS = [("mouse", "animal"), ("nest", "nest"), ("rat", "animal")]


def _holder(folder: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], env=worker_environment(), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


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
    subprocess.run([sam2_python, script, folder], env=worker_environment(), check=True)
    return folder


def _segment(
    reference: Path,
    python: Path,
    masks_path: Path,
    *,
    source_frames: list[int] | None = None,
    name: str = "small",
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    frames = np.arange(24) if source_frames is None else np.array(source_frames)
    request = SegmentationRequest(
        video_path=reference / "video.mp4",
        masks_path=masks_path,
        source_frames=frames,
        timestamps_s=frames / 30,
        height=192,
        width=320,
        objects=OBJECTS,  # type: ignore[arg-type]
        prompts=[
            ObjectPrompt("mouse", "animal", 80.0, 90.0, 0, "run config"),
            ObjectPrompt("nest", "nest", 250.0, 60.0, 0, "run config"),
            ObjectPrompt("rat", "animal", 160.0, 150.0, 5, "run config"),
        ],
    )
    outcome: dict[str, Any] = {}

    @dg.asset
    def masks(
        context: dg.AssetExecutionContext, segmenter: Segmenter
    ) -> dg.MaterializeResult[None]:
        outcome.update(segmenter.segment(context, name, request, on_progress))
        return dg.MaterializeResult(metadata=outcome)

    segmenter = Segmenter(home=str(reference), sam2_python=str(python), device="cpu")
    dg.materialize([masks], resources={"segmenter": segmenter})
    return outcome


@pytest.mark.sam2
def test_streamed_logits_are_those_of_the_official_propagate_in_video(reference: Path) -> None:
    found = json.loads((reference / "reference.json").read_text())
    assert found["same_frames"]
    assert found["largest_difference"] < 1e-5


@pytest.mark.sam2
def test_the_tracker_holds_a_bounded_number_of_memories(reference: Path) -> None:
    held = json.loads((reference / "reference.json").read_text())["memories_held"]
    # two batches (mouse with nest, rat), each its click and 16 frames
    assert held[-1] == max(held) == 2 * 17


@pytest.mark.sam2
def test_the_worker_writes_the_official_masks(
    reference: Path, sam2_python: Path, tmp_path: Path
) -> None:
    metadata = _segment(reference, sam2_python, tmp_path / "masks.npz")
    assert metadata["frames"] == 24
    assert metadata["precision"] == "fp32"
    assert metadata["frames_per_second"] > 0
    official = np.load(reference / "reference.npz")
    with MaskReader(tmp_path / "masks.npz") as reader:
        assert reader.segmenter == "small"
        assert reader.objects == ("mouse", "nest", "rat")
        for name in reader.objects:
            area = reader.area(name)
            assert area.max() > 0, "the test would compare nothing"
            for row, mask in reader.iter_masks(name):
                assert np.array_equal(mask, official[name][row]), f"{name} in frame {row}"
            score = reader.score(name)
            assert ((score >= 0) & (score <= 1)).all()
            assert (score[area > 0] > 0.5).all()
        assert (reader.area("rat")[:5] == 0).all(), "before its click there is no rat"
        assert (reader.score("rat")[:5] == 0).all()
    assert os.listdir(tmp_path) == ["masks.npz"]


@pytest.mark.sam2
def test_a_click_between_sampled_frames_is_tracked_from_but_not_written(
    reference: Path, sam2_python: Path, tmp_path: Path
) -> None:
    _segment(reference, sam2_python, tmp_path / "masks.npz", source_frames=[0, 4, 8, 12])
    with MaskReader(tmp_path / "masks.npz") as reader:
        assert reader.source_frame.tolist() == [0, 4, 8, 12]
        assert (reader.area("rat")[:2] == 0).all()
        assert reader.area("rat")[2] > 0, "clicked in frame 5"


@pytest.mark.sam2
def test_half_precision_runs_and_agrees_with_float32(reference: Path) -> None:
    agreement = json.loads((reference / "reference.json").read_text())["half_precision_iou"]
    assert set(agreement) == {"bf16", "fp16"}
    assert min(agreement.values()) > 0.95


@pytest.mark.sam2
def test_a_segmentation_that_is_interrupted_leaves_no_file(
    reference: Path, sam2_python: Path, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int) -> None:
        assert (done, total) == (1, 24)
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        _segment(reference, sam2_python, tmp_path / "masks.npz", on_progress=interrupt)
    assert os.listdir(tmp_path) == []


@pytest.mark.sam2
def test_bad_weights_fail_once_and_say_why(
    reference: Path, sam2_python: Path, tmp_path: Path
) -> None:
    models = reference / "models"
    (models / "cut.pt").write_bytes((models / "small.pt").read_bytes()[:100_000])
    home = reference / "models.toml"
    home.write_text(
        '[small]\nkind = "sam2"\nconfig = "small.yaml"\nfile = "small.pt"\n'
        '[cut]\nkind = "sam2"\nconfig = "small.yaml"\nfile = "cut.pt"\n'
        '[other]\nkind = "sam2"\nconfig = "configs/sam2.1/sam2.1_hiera_t.yaml"\nfile = "small.pt"\n'
        f'[changed]\nkind = "sam2"\nconfig = "small.yaml"\nfile = "small.pt"\nsha256="{"0" * 64}"\n'
    )
    for name, sentence in {
        "cut": "is not a SAM2 checkpoint",
        "other": "do not fit the configuration",
        "changed": "its sha256 is",
    }.items():
        with pytest.raises(PermanentProblem, match=sentence):
            _segment(reference, sam2_python, tmp_path / "masks.npz", name=name)
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
