"""When the masks that a video already has may be kept in part."""

from dataclasses import asdict
from typing import Any

import pytest

from resources.artifact_store import ArtifactRecord
from tailor_assets.compute.prompts import ObjectPrompt
from tailor_assets.masks import changed_since, describe_changes

MOUSE = ObjectPrompt("mouse", "animal", 10.0, 20.0, 0, "run config")
NEST = ObjectPrompt("nest", "nest", 50.0, 60.0, 0, "tailor.json")
LATER = ObjectPrompt("mouse", "animal", 30.0, 40.0, 900, "tailor.json")


def _record(artifact: str, version: str, **more: Any) -> ArtifactRecord:
    return ArtifactRecord(artifact=artifact, version=version, **more)


FRAMES = _record("frames", "f1")


def _masks(**more: Any) -> ArtifactRecord:
    details = {"made_by": "engine", "points": [asdict(MOUSE), asdict(NEST)]}
    return _record("masks", "m1", made_from={"frames": "f1"}, details=details, **more)


def test_a_later_point_of_one_object_keeps_everything_before_it_and_the_other_object() -> None:
    changed = changed_since(_masks(), FRAMES, "engine", [MOUSE, NEST, LATER])
    assert changed == {"mouse": 900, "nest": None}
    assert describe_changes(changed, [MOUSE, NEST, LATER]) == (
        "masks from before are used where the points allow it "
        "(mouse: again from frame 900 of the video; nest: kept)"
    )


def test_an_object_without_a_point_any_more_is_said_to_have_none() -> None:
    changed = changed_since(_masks(), FRAMES, "engine", [MOUSE])
    assert changed == {"mouse": None, "nest": 0}
    assert "(mouse: kept; nest: no point any more)" in describe_changes(changed, [MOUSE])


@pytest.mark.parametrize(
    ("before", "frames", "made_by"),
    [
        (None, FRAMES, "engine"),
        (_masks(problem="of other frames"), FRAMES, "engine"),
        (_masks(), _record("frames", "f2"), "engine"),
        (_masks(), FRAMES, "another engine"),
        (_masks(), FRAMES, ""),
    ],
    ids=["none there", "refused by a check", "other frames", "another model", "background"],
)
def test_masks_of_anything_else_are_not_used(
    before: ArtifactRecord | None, frames: ArtifactRecord, made_by: str
) -> None:
    assert changed_since(before, frames, made_by, [MOUSE, NEST, LATER]) is None


def test_where_nothing_would_be_kept_the_video_is_segmented_as_a_new_one() -> None:
    moved = [ObjectPrompt(p.name, p.kind, p.x + 1, p.y, 0, p.origin) for p in (MOUSE, NEST)]
    assert changed_since(_masks(), FRAMES, "engine", moved) is None
