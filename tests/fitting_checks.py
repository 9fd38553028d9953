"""Runs in the SAM2 environment, which has no pytest: what test_fitting.py asks of the training.

`python fitting_checks.py FOLDER CHECK` prints one JSON value. What is found is judged in
test_fitting.py.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam2_worker.fitting.batches import Batch, batches
from sam2_worker.fitting.clip_shelf import ClipShelf
from sam2_worker.fitting.losses import Prediction, mask_iou, prediction_loss
from sam2_worker.fitting.recipe import Stage, read_recipe
from sam2_worker.fitting.scene_head import SceneHead, scene_loss
from sam2_worker.fitting.trainer import STATE, Trainer
from sam2_worker.fitting.unrolled_tracker import UnrolledTracker
from sam2_worker.fitting.views import make_view, pairs_that_touch
from sam2_worker.fitting.weights_file import write_weights
from sam2_worker.model_loading import build_model, load_model
from sam2_worker.request import ModelSpec
from sam2_worker.stop_request import StopRequest
from sam2_worker.streaming_tracker import StreamingTracker
from sam2_worker.video_model import VideoModel
from tailor_assets.compute.errors import PermanentProblem

CONFIG = Path(__file__).parents[1] / "resources/models/tailor_nano.yaml"
RECIPE = """
seed = 3
warmup_steps = 2
weight_decay = 0.05
gradient_limit = 1.0
averaging = 0.9
correction = 0.5
later_click = 0.5
shelf = 2
uses = 4
clip_frames = 3
clip_width = 96
clip_height = 96
company = 0.5
steps_s = [0.0667]
[[stages]]
name = "one"
steps = 3
image_size = 64
frames = 1
clips = 2
rate = 1e-3
last_rate = 1e-3
least_share = 0.02
most_share = 0.2
whole = 0.2
wear = 0.5
others = 0.25
away = 0.2
hidden = 0.2
following = 0.3
contact = 0.5
[[stages]]
name = "three"
steps = 3
image_size = 96
frames = 3
clips = 2
rate = 1e-3
last_rate = 1e-4
least_share = 0.02
most_share = 0.2
whole = 0.2
wear = 0.5
others = 0.25
away = 0.2
hidden = 0.2
following = 0.3
contact = 0.5
"""


def _recipe(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.toml"
    path.write_text(RECIPE)
    return path


class _StopAfter(StopRequest):
    """Says stop when it has been asked so many times: once after every step."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def is_set(self) -> bool:
        self._left -= 1
        return self._left <= 0


def _train(folder: Path, pieces: list[int]) -> Trainer:
    for steps in pieces:
        trainer = Trainer(folder, CONFIG, read_recipe(_recipe(folder)), torch.device("cpu"))
        trainer.run(workers=0, seconds=float("inf"), stop=_StopAfter(steps))
    return trainer


def stopped_and_continued(folder: Path) -> Any:
    """Largest difference of weights between a training in one go and one in three pieces."""
    whole = _train(folder / "whole", [6])
    pieces = _train(folder / "pieces", [2, 2, 2])
    return {
        "steps": [whole.step, pieces.step],
        "difference": max(
            float((whole.average[name] - pieces.average[name]).abs().max())
            for name in whole.average
        ),
        "learnt": float((whole.average["no_mem_embed"] - Trainer(
            folder / "fresh", CONFIG, read_recipe(_recipe(folder / "fresh")), torch.device("cpu")
        ).average["no_mem_embed"]).abs().max()),
        "log": (folder / "whole/log.jsonl").exists(),
    }  # fmt: skip


def batches_of_any_worker(folder: Path) -> Any:
    """Whether batches made here and by a helper process, from any step on, are the same."""
    recipe = read_recipe(_recipe(folder))
    here = list(batches(folder / "a", recipe, range(6), 0))
    there = list(batches(folder / "b", recipe, range(2, 6), 1))
    return [_same(ours, theirs) for ours, theirs in zip(here[2:], there, strict=True)]


def _same(first: Batch, second: Batch) -> bool:
    return all(
        torch.equal(torch.nan_to_num(getattr(first, name)), torch.nan_to_num(getattr(second, name)))
        for name in Batch.__dataclass_fields__
    )


def views_of_a_known_clip(_: Path) -> Any:
    """A bright square that moves: is the truth where it is bright, and the click inside?"""
    clip = np.full((6, 120, 160, 4), 40, np.uint8)
    clip[..., 3] = 0
    for t in range(6):
        clip[t, 40 + 4 * t : 70 + 4 * t, 50:90, :3] = 220
        clip[t, 40 + 4 * t : 70 + 4 * t, 50:90, 3] = 1
    stage = Stage("moving", 1, 64, 4, 1, 1e-3, 1e-3, 0.01, 0.2, 0.3, 0.5, 0.0, 0.1, 0.0, 0.3, 0.0)
    inside, agreeing, absent = [], [], 0
    for seed in range(200):
        view = make_view(np.random.default_rng(seed), clip, stage)
        if not view.truth[:, 0].any():
            absent += 1
            continue
        for t in range(4):
            x, y = view.clicks[t, 0]
            if not np.isnan(x):
                inside.append(float(view.truth[t, 0, int(y) // 4, int(x) // 4]))
            assert np.array_equal(view.scene[t, 0], view.truth[t, 0])  # the only animal
            full = view.truth[t, 0] > 0.95
            bare = view.truth[t, 0] < 0.05
            luma = view.pictures[t].astype(float).mean(2).reshape(16, 4, 16, 4).mean((1, 3))
            if full.sum() > 3 and bare.sum() > 3:
                agreeing.append(abs(luma[full].mean() - luma[bare].mean()))
    return {
        "absent": absent / 200, "click_in_mask": float(np.mean(np.array(inside) > 0)),
        "least_contrast": float(np.quantile(agreeing, 0.02)), "views": len(agreeing),
    }  # fmt: skip


def views_of_a_hidden_object(_: Path) -> Any:
    """The square at rest, covered for a while: in how many views, and is it seen before and after?"""
    clip = np.full((6, 120, 160, 4), 40, np.uint8)
    clip[..., 3] = 0
    clip[:, 40:70, 50:90, :3] = 220
    clip[:, 40:70, 50:90, 3] = 1
    stage = Stage("hidden", 1, 64, 6, 1, 1e-3, 1e-3, 0.05, 0.2, 0.0, 0.0, 0.0, 0.0, 1.0, 0.3, 0.0)
    covered, comes_back, told_in_the_dark = 0, 0, 0
    for seed in range(60):
        view = make_view(np.random.default_rng(seed), clip, stage)
        seen = view.truth[:, 0].sum((1, 2))
        if not seen[0]:
            continue  # a view of bare floor
        gone = seen < 0.3 * seen[0]
        covered += bool(gone.any())
        comes_back += bool(gone.any() and not gone[-1])
        told_in_the_dark += int((~np.isnan(view.clicks[seen == 0, 0, 0])).sum())
    return {"covered": covered, "comes_back": comes_back, "told_in_the_dark": told_in_the_dark}


def views_of_three_of_whom_two_meet(_: Path) -> Any:
    """One passes another, a third stays away: which of them the views are of, and what touches."""
    clip = np.full((6, 120, 160, 4), 40, np.uint8)
    clip[..., 3] = 0
    shades = (90, 160, 230)
    for t in range(6):
        for bit, (row, column) in enumerate([(20, 20 + 10 * t), (20, 75), (90, 75)]):
            clip[t, row : row + 16, column : column + 16, :3] = shades[bit]
            clip[t, row : row + 16, column : column + 16, 3] = 1 << bit
    stage = Stage("contact", 1, 64, 6, 1, 1e-3, 1e-3, 0.05, 0.1, 1.0, 0.0, 0.0, 0.0, 0.0, 0.3, 1.0)
    clicked: dict[int, int] = {}
    for seed in range(40):
        view = make_view(np.random.default_rng(seed), clip, stage)
        for x, y in view.clicks[0]:
            shade = int(view.pictures[0, int(y), int(x), 0])
            nearest = min(shades, key=lambda other: abs(other - shade))
            clicked[nearest] = clicked.get(nearest, 0) + 1
    return {
        "pairs": pairs_that_touch(np.ascontiguousarray(clip[..., 3])),
        "before": pairs_that_touch(np.ascontiguousarray(clip[:3, ..., 3])),
        "clicked": [clicked.get(shade, 0) for shade in shades],
    }  # fmt: skip


def clips_in_company(folder: Path) -> Any:
    """How many animals are ever seen in clips of which half are to have two or more."""
    recipe = read_recipe(_recipe(folder))
    alone, together = (
        ClipShelf(folder / name, replace(recipe, company=share))
        for name, share in (("alone", 0.0), ("together", 1.0))
    )
    return [
        [
            sum(bool((shelf.clip(n)[..., 3] & (1 << bit)).any()) for bit in range(4))
            for n in range(8)
        ]
        for shelf in (alone, together)
    ]


def second_head_and_encoder(folder: Path) -> Any:
    """Whether the second head teaches the encoder, in each of four steps (two of them warming up):
    of a training from nothing, and of one that begins with published weights."""
    recipe, cpu = read_recipe(_recipe(folder)), torch.device("cpu")
    asked: list[bool] = []

    def look(module: torch.nn.Module, inputs: Any) -> None:
        if isinstance(module, SceneHead):
            asked.append(inputs[0][0].requires_grad)

    hook = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        fresh = Trainer(folder / "fresh", CONFIG, recipe, cpu)
        fresh.run(workers=0, seconds=float("inf"), stop=_StopAfter(4))
        path = folder / "weights.safetensors"
        write_weights(path, fresh.average, CONFIG, [{"record": []}])
        begun = Trainer(folder / "begun", CONFIG, recipe, cpu, begin_with=path)
        begun.run(workers=0, seconds=float("inf"), stop=_StopAfter(4))
    finally:
        hook.remove()
    return asked


def unrolled_and_streamed(folder: Path) -> Any:
    """Largest difference of mask logits between the training's steps and the tracker's."""
    torch.manual_seed(0)
    spec = ModelSpec("test", str(CONFIG), "", image_size=128, precision="fp32")
    model = build_model(spec)
    with torch.no_grad():  # untrained, it would see nothing and say so everywhere
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5.0)
        for name, value in model.image_encoder.trunk.state_dict().items():
            if name.endswith("running_mean"):  # or there would be nothing to fold
                value.normal_(0, 0.3)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (6, 1, 128, 128, 3), dtype=np.uint8)
    clicks = torch.full((6, 1, 2), float("nan"))
    clicks[0, 0] = torch.tensor([60.0, 70.0])
    clicks[3, 0] = torch.tensor([30.0, 20.0])
    with torch.inference_mode():
        unrolled = UnrolledTracker(model).run(
            torch.from_numpy(pictures), clicks, torch.zeros(1, dtype=torch.int64),
            torch.zeros(6, 1, 32, 32), correct=False, click_again=3,
        )  # fmt: skip
    streamed = _stream(model, pictures[:, 0], {0: (60.0, 70.0), 3: (30.0, 20.0)})
    difference = (unrolled.masks[:, 0] - streamed).abs().flatten(1).amax(1)
    return {"difference": difference.tolist(), "spread": float(streamed.std())}


def _stream(
    model: Any, pictures: np.ndarray, clicks: dict[int, tuple[float, float]]
) -> torch.Tensor:
    video_model = VideoModel(model, torch.device("cpu"), torch.float32)
    in_fractions = {step: [(x / 128, y / 128)] for step, (x, y) in clicks.items()}
    tracker = StreamingTracker(video_model.head, {"mouse": in_fractions}, image_size=128)
    tracked = []
    for step, picture in enumerate(pictures):
        (features,) = video_model.encode([picture])
        tracked.append(tracker.track(step, lambda _, features=features: features))
    return torch.cat([frame.masks.logits for frame in tracked])


def losses_of_right_and_wrong(_: Path) -> Any:
    """Loss of a right answer, a wrong one and an empty one; gradient of a mask not there."""
    truth = torch.zeros(2, 16, 16)
    truth[0, 4:12, 4:12] = 1.0
    right = torch.where(truth > 0.5, 12.0, -12.0)[:, None].repeat(1, 3, 1, 1)
    sure = torch.tensor([9.0, -9.0])
    perfect = prediction_loss(Prediction(right, torch.ones(2, 3), sure), truth)
    wrong = prediction_loss(Prediction(-right, torch.zeros(2, 3), -sure), truth)
    one_of_three = right.clone()
    one_of_three[:, 1:] *= -1
    best = prediction_loss(Prediction(one_of_three, torch.ones(2, 3), sure), truth)
    free = torch.zeros(2, 3, 16, 16, requires_grad=True)
    prediction_loss(Prediction(free, torch.ones(2, 3), sure), truth).total.backward()
    assert free.grad is not None
    return {
        "right": float(perfect.total), "wrong": float(wrong.total), "best": float(best.mask),
        "others": float(prediction_loss(
            Prediction(one_of_three, torch.ones(2, 3), sure), truth, 0.5).mask),
        "absent_pulls": float(free.grad[1].abs().sum()),
        "present_pulls": float(free.grad[0].abs().sum()),
        "iou": mask_iou(right[:, 0], truth).tolist(),
        "scene": [float(scene_loss(x * right[:, :2], truth[:, None].repeat(1, 2, 1, 1)))
                  for x in (1, 0, -1)],
    }  # fmt: skip


def exported(folder: Path) -> Any:
    """What the tracker loads of what the training wrote, and what the file says of itself."""
    from safetensors import safe_open

    trainer = _train(folder, [2])
    path = folder / "weights.safetensors"
    write_weights(path, trainer.average, CONFIG, [{"record": [{"step": 2}]}])
    model = load_model(ModelSpec("ours", str(CONFIG), str(path)), torch.device("cpu"))
    loaded = model.state_dict()
    with safe_open(path, "pt") as file:
        said = file.metadata()
    return {
        "difference": max(
            float((loaded[name].float() - trainer.average[name].half().float()).abs().max())
            for name in trainer.average
        ),
        "bytes": path.stat().st_size,
        "trainings": json.loads(said["trainings"]),
        "config": said["config"] == CONFIG.read_text(),
    }


def begun_with_weights(folder: Path) -> Any:
    """A training that begins with what another wrote, with no file, and with another file."""
    cpu, recipe = torch.device("cpu"), read_recipe(_recipe(folder))
    trainer = Trainer(folder / "first", CONFIG, recipe, cpu)
    path = folder / "weights.safetensors"
    write_weights(path, trainer.average, CONFIG, [{"record": [{"step": 7}]}])
    second = Trainer(folder / "second", CONFIG, recipe, cpu, begin_with=path)
    said = []
    for wrong in (folder / "nothing", folder / "recipe.toml"):
        try:
            Trainer(folder / "third", CONFIG, recipe, cpu, begin_with=wrong)
        except PermanentProblem as problem:
            said.append(str(problem))
    return {
        "difference": max(
            float((second.average[name] - trainer.average[name].half()).abs().max())
            for name in trainer.average
        ),
        "earlier": second.earlier,
        "no_file": said[0],
        "no_weights": said[1],
    }


def foreign_states(folder: Path) -> Any:
    """What is said of a state that is none, and of one of another recipe."""
    said = []
    _train(folder, [1])
    recipe = _recipe(folder)
    recipe.write_text(RECIPE.replace("seed = 3", "seed = 4"))
    for spoil in (lambda: None, lambda: (folder / STATE).write_bytes(b"no state")):
        spoil()
        try:
            Trainer(folder, CONFIG, read_recipe(recipe), torch.device("cpu"))
        except PermanentProblem as problem:
            said.append(str(problem))
    return said


def main() -> None:
    """Answer the one check that is named."""
    torch.set_num_threads(1)
    check: Callable[[Path], Any] = globals()[sys.argv[2]]
    print(json.dumps(check(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
