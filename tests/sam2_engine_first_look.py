"""What tailor's own network sees at a click, on simulated frames."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sam2_engine_lab import Lab, replaced

from benchmarks.mask_quality.recordings import innermost_point
from resources.settings import PROJECT_ROOT
from sam2_worker.first_look import FirstLook, Look, Prompted
from sam2_worker.mask_refinement import refined_mask
from sam2_worker.model_loading import load_model
from sam2_worker.object_memory import ObjectMemory
from sam2_worker.request import ModelSpec
from sam2_worker.video_model import VideoModel, resize_to_square
from sam2_worker.view import View
from sam2_worker.view_follower import ViewFollower
from tailor_assets.compute.simulation.wide_scene import build_wide_scene

WIDTH, HEIGHT = 640, 480
_NANO = PROJECT_ROOT / "resources" / "models" / "tailor_nano"


@functools.cache
def model() -> VideoModel:
    spec = ModelSpec("tailor-nano", f"{_NANO}.yaml", f"{_NANO}.safetensors")
    return VideoModel(load_model(spec, torch.device("cpu")), torch.device("cpu"), torch.float32)


class Frame:
    """The first frame of a simulated scene."""

    def __init__(self, seed: int, animals: int) -> None:
        scene = build_wide_scene(seed, width=WIDTH, height=HEIGHT, duration_s=10.0, animals=animals)
        self.picture, seen = scene.render(0.0)
        self.animals = [seen == scene.labels.body(number) for number in range(scene.animals)]
        self.nest = seen == scene.labels.nest
        self.views: list[View | None] = []

    def look(self) -> Look:
        @functools.cache
        def look(view: View | None) -> Any:
            self.views.append(view)
            part = self.picture if view is None else view.cut(self.picture)
            return model().encode([resize_to_square(part, model().image_size)])[0]

        return look

    @torch.inference_mode()
    def see(self, kind: Any, prompted: Prompted) -> tuple[np.ndarray, float]:
        """The mask of what is clicked, and the logit that something is there."""
        memory = ObjectMemory(("it",), model().head)
        follower = ViewFollower(kind, (WIDTH, HEIGHT), model().image_size // 2)
        first = FirstLook(
            memory,
            follower,
            self.look(),
            prompted,
            step=0.0,
            image_size=model().image_size,
            picture=(WIDTH, HEIGHT),
        )
        view, prediction = first.see()
        assert follower.view == view
        mask = refined_mask(self.picture, prediction.logits[0].numpy(), view)
        return mask, float(prediction.score_logits[0])


def place_of(mask: np.ndarray) -> tuple[float, float]:
    x, y = innermost_point(mask)
    return x / WIDTH, y / HEIGHT


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def clicked_beside_another(_lab: Lab, seed: int, animals: int, which: int) -> dict[str, float]:
    """IoU of an animal, told of the clicks on the others and not told."""
    frame = Frame(seed, animals)
    own, others = frame.animals[which], [a for i, a in enumerate(frame.animals) if i != which]
    beside = [place_of(other) for other in others if other.any()]
    told, _ = frame.see("animal", Prompted([place_of(own)], beside))
    alone, _ = frame.see("animal", Prompted([place_of(own)]))
    return {"told": iou(told, own), "alone": iou(alone, own)}


def clicked_thoroughly(_lab: Lab, seed: int) -> dict[str, Any]:
    """IoU of an animal at a click, looked at once more in a mirror alone and in all ways, and how
    often the picture was looked at."""
    found: dict[str, Any] = {"iou": [], "views": []}
    for thorough in (False, True):
        frame = Frame(seed, 1)
        own = frame.animals[0]
        mask, _ = frame.see("animal", Prompted([place_of(own)], evidence=1.0, thorough=thorough))
        found["iou"].append(iou(mask, own))
        found["views"].append(len(frame.views))
    return found


def clicked_nest(_lab: Lab, seed: int, animals: int) -> dict[str, Any]:
    """IoU of a nest, and the views that were looked at."""
    frame = Frame(seed, animals)
    mask, _ = frame.see("nest", Prompted([place_of(frame.nest)]))
    return {
        "iou": iou(mask, frame.nest),
        "views": len(frame.views),
        "mirrored": sum(view is not None and view.mirrored for view in frame.views),
    }


def evidence(_lab: Lab, seed: int, animals: int) -> dict[str, Any]:
    """A click on an animal in a network that denies it by half a logit, with and without evidence."""
    frame = Frame(seed, animals)
    own = frame.animals[0]
    head: Any = model().head.heads
    decode: Callable[..., Any] = head._model.sam_mask_decoder.forward

    def denying(**values: Any) -> Any:
        masks, ious, tokens, score = decode(**values)
        return masks, ious, tokens, torch.full_like(score, -0.5)

    with replaced(head._model.sam_mask_decoder, "forward", denying):
        without = frame.see("animal", Prompted([place_of(own)]))
        mask, logit = frame.see("animal", Prompted([place_of(own)], evidence=1.0))
    return {
        "without": int(without[0].sum()),
        "denied_by": without[1],
        "iou": iou(mask, own),
        "logit": logit,
    }
