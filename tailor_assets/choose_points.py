"""Which points each object gets, and who gave them: the pure part of the ``prompts`` asset."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.prompts import ObjectPrompt
from tailor_assets.templates import Template, TemplateObject
from tailor_assets.video_settings import GivenPoint

# Automatic detection: number of animals wanted -> (x, y, source_frame, confidence) of those found.
Detector = Callable[[int], list[tuple[float, float, int, float]]]


@dataclass(frozen=True)
class ChosenPoints:
    """``missing``: objects only a person can point at; ``not_found``: animals not in the picture.

    ``prompts`` are in the template's order of objects, each object's by frame, those of one frame
    from left to right: the order in which they were given says nothing.
    """

    prompts: tuple[ObjectPrompt, ...]
    missing: tuple[str, ...]
    not_found: tuple[str, ...]


def choose_points(
    template: Template,
    *,
    from_run: Mapping[str, Sequence[GivenPoint]],
    from_sidecar: Mapping[str, Sequence[GivenPoint]],
    width: int,
    height: int,
    frame_count: int,
    detect: Detector,
) -> ChosenPoints:
    """Points per object: run config, else tailor.json, else the template's, else detection.

    All points of an object are from one of these; a template and detection give one. Raises
    PermanentProblem for a point outside the picture or the video, or for an object that the
    template does not have. ``detect`` is asked only when an animal has no other point.
    """
    names = [o.name for o in template.objects]
    for given, origin in ((from_run, "the run's configuration"), (from_sidecar, "tailor.json")):
        for name in given:
            if name not in names:
                raise PermanentProblem(
                    f"{origin} gives a point for {name!r}, and template {template.name!r} has "
                    f"{' and '.join(names)}: rename the point or choose another template."
                )
    prompts: list[ObjectPrompt] = []
    missing: list[str] = []
    to_detect: list[TemplateObject] = []
    for item in template.objects:
        if item.name in from_run:
            points, origin = from_run[item.name], "run config"
        elif item.name in from_sidecar:
            points, origin = from_sidecar[item.name], "tailor.json"
        elif item.point is not None:
            x, y = item.point
            points, origin = [GivenPoint(x=x * (width - 1), y=y * (height - 1))], "template"
        elif item.detect:
            to_detect.append(item)
            continue
        else:
            missing.append(item.name)
            continue
        for point in sorted(points, key=lambda p: (p.frame, p.x, p.y)):
            _check_inside(item.name, point, origin, width, height, frame_count)
            prompts.append(
                ObjectPrompt(item.name, item.kind, point.x, point.y, point.frame, origin)
            )

    found: list[tuple[float, float, int, float]] = []
    if to_detect and not missing:
        # Animals that already have a point are found again; the nearest to each is that animal.
        pointed: dict[str, list[ObjectPrompt]] = {}
        for prompt in prompts:
            if prompt.kind == "animal":
                pointed.setdefault(prompt.name, []).append(prompt)
        found = detect(len(to_detect) + len(pointed))
        for points_of_one in pointed.values():
            if found:
                found.remove(min(found, key=lambda hit: _distance(hit, points_of_one)))
    for item, hit in zip(to_detect, found, strict=False):
        prompts.append(ObjectPrompt(item.name, item.kind, hit[0], hit[1], hit[2], "automatic"))
    not_found = [] if missing else [item.name for item in to_detect[len(found) :]]
    order = {name: number for number, name in enumerate(names)}
    return ChosenPoints(
        prompts=tuple(sorted(prompts, key=lambda p: order[p.name])),
        missing=tuple(missing),
        not_found=tuple(not_found),
    )


def _check_inside(
    name: str, point: GivenPoint, origin: str, width: int, height: int, frame_count: int
) -> None:
    if not (0 <= point.x < width and 0 <= point.y < height):
        raise PermanentProblem(
            f"The point of {name} {point} from {origin} is outside the picture, which is {width} x "
            f"{height} pixels: give x from 0 to {width - 1} and y from 0 to {height - 1}."
        )
    if point.frame >= frame_count:
        raise PermanentProblem(
            f"The point of {name} {point} from {origin} is on frame {point.frame}, and the video has "
            f"frames 0 to {frame_count - 1}: give a frame of the video."
        )


def _distance(hit: tuple[float, float, int, float], points: Sequence[ObjectPrompt]) -> float:
    """From what was found to the points of one animal: those given nearest to its frame count."""
    apart = min(abs(point.source_frame - hit[2]) for point in points)
    return min(
        math.hypot(point.x - hit[0], point.y - hit[1])
        for point in points
        if abs(point.source_frame - hit[2]) == apart
    )
