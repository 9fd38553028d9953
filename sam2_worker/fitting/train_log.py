"""The record of a training: one JSON line every so many steps, and the same for a person to read."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from sam2_worker.fitting.batches import Batch
from sam2_worker.fitting.losses import Loss, mask_iou
from sam2_worker.fitting.recipe import Stage
from sam2_worker.fitting.unrolled_tracker import TrackedClip

_EVERY = 50


class TrainLog:
    """Means over ``_EVERY`` steps of losses, and of IoU by how far a frame is from the click."""

    def __init__(self, path: Path, step: int) -> None:
        """Go on in ``path``; lines from ``step`` on are of work that was lost, and are dropped."""
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._sums: dict[str, list[float]] = {}
        self._since = time.perf_counter()

    def add(self, loss: Loss, batch: Batch, clip: TrackedClip) -> None:
        """Count one step."""
        values = {"mask": loss.mask, "iou": loss.iou, "score": loss.score, "scene": loss.scene}
        for name, value in values.items():
            if value is not None:
                self._put(f"loss_{name}", float(value))
        frames = len(clip.masks)
        for place, t in (("first", 0), ("middle", frames // 2), ("last", frames - 1)):
            covered = batch.truth[t].flatten(1).sum(1)
            reached = mask_iou(clip.masks[t], batch.truth[t])
            for name, kind in (("animal", ~batch.is_nest), ("nest", batch.is_nest)):
                some = kind & (covered >= 4)
                if some.any():
                    self._put(f"{name}_{place}", float(reached[some].mean()))
        scores = torch.stack([answers[-1].scores for answers in clip.predictions]).detach()
        sums = batch.truth.flatten(2).sum(2)
        for name, chosen, right in (
            ("seen", sums >= 4, scores > 0), ("absent", sums < 0.05, scores <= 0),
        ):  # fmt: skip
            if chosen.any():
                self._put(name, float(right[chosen].float().mean()))

    def write(self, step: int, of: int, stage: Stage, rate: float) -> None:
        """Write a line where one is due after ``step`` steps."""
        if step % _EVERY:
            return
        now = time.perf_counter()
        means = {name: sum(all_) / len(all_) for name, all_ in self._sums.items() if all_}
        line = {
            "step": step, "stage": stage.name, "rate": rate,
            "seconds_per_step": (now - self._since) / _EVERY, **means,
        }  # fmt: skip
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(_rounded(line)) + "\n")
        print(_for_a_person(line, of), flush=True)
        self._sums, self._since = {}, now

    def _put(self, name: str, value: float) -> None:
        self._sums.setdefault(name, []).append(value)


def _rounded(line: Mapping[str, object]) -> dict[str, object]:
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in line.items()}


def _for_a_person(line: Mapping[str, object], of: int) -> str:
    def said(*names: str) -> str:
        values = [line.get(name) for name in names]
        return "/".join("-" if v is None else f"{v:.2f}" for v in values)

    return (
        f"step {line['step']} of {of}, {line['stage']}: "
        f"loss {said('loss_mask', 'loss_iou', 'loss_score', 'loss_scene')}, "
        f"IoU first/middle/last: animal {said('animal_first', 'animal_middle', 'animal_last')}, "
        f"nest {said('nest_first', 'nest_middle', 'nest_last')}, "
        f"seen/absent told right {said('seen', 'absent')}, {line['seconds_per_step']:.2f} s a step"
    )
