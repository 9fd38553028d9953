"""Which point each object gets: run, tailor.json, template, detection, in this order."""

from typing import Any

import pytest

from tailor_assets.choose_points import ChosenPoints, choose_points
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.templates import Template, load_templates
from tailor_assets.video_settings import GivenPoint

FOUND = (50.0, 60.0, 7, 0.9)


def must_not_detect(count: int) -> list[tuple[float, float, int, float]]:
    raise AssertionError("every animal has a point")


def choose(template: str | Template, **given: Any) -> ChosenPoints:
    options: dict[str, Any] = {
        "from_run": {},
        "from_sidecar": {},
        "width": 640,
        "height": 480,
        "frame_count": 100,
        "detect": must_not_detect,
    }
    chosen = load_templates()[template] if isinstance(template, str) else template
    return choose_points(chosen, **(options | given))


def two_mice(**second: Any) -> Template:
    objects = [
        {"name": "a", "kind": "animal", "detect": True},
        {"name": "b", "kind": "animal", **second},
    ]
    return Template.model_validate({"name": "two", "feature_set": "mouse", "objects": objects})


def test_the_run_goes_before_tailor_json_and_that_before_the_template() -> None:
    run = {"rat": [GivenPoint(x=1, y=2, frame=3)]}
    sidecar = {"rat": [GivenPoint(x=4, y=5)], "nest": [GivenPoint(x=6, y=7)]}
    rat, nest = choose("rat1", from_run=run, from_sidecar=sidecar).prompts
    assert (rat.x, rat.y, rat.source_frame, rat.origin) == (1, 2, 3, "run config")
    assert (nest.x, nest.y, nest.source_frame, nest.origin) == (6, 7, 0, "tailor.json")
    _, nest = choose("rat1", from_run=run).prompts
    assert (nest.x, nest.y, nest.origin) == (0.2 * 639, 0.25 * 479, "template")


def test_a_fixed_point_at_the_edge_is_inside_the_picture() -> None:
    template = two_mice(point=[1.0, 1.0])
    _, b = choose(template, from_run={"a": [GivenPoint(x=0, y=0)]}, width=1, height=1).prompts
    assert (b.x, b.y) == (0, 0)


def test_an_animal_without_a_point_is_detected() -> None:
    (mouse,) = choose("mouse", detect=lambda count: [FOUND][:count]).prompts
    assert (mouse.x, mouse.y, mouse.source_frame, mouse.origin) == (50, 60, 7, "automatic")


def test_an_animal_that_is_not_there_is_not_found_and_nothing_is_missing() -> None:
    chosen = choose("mouse", detect=lambda count: [])
    assert chosen == ChosenPoints((), (), ("mouse",))


def test_a_nest_without_a_point_waits_for_a_person_and_detects_nothing_meanwhile() -> None:
    chosen = choose("mouse_nest")
    assert chosen.missing == ("nest",)
    assert chosen.not_found == ()


def test_an_animal_that_has_a_point_is_not_found_a_second_time() -> None:
    asked = []

    def detect(count: int) -> list[tuple[float, float, int, float]]:
        asked.append(count)
        return [(100.0, 100.0, 0, 0.9), (300.0, 300.0, 0, 0.8)]

    chosen = choose(two_mice(), from_sidecar={"b": [GivenPoint(x=103, y=99)]}, detect=detect)
    assert asked == [2]
    assert [(p.name, p.x) for p in chosen.prompts] == [("a", 300.0), ("b", 103.0)]


def test_several_points_are_in_the_templates_order_and_then_by_frame() -> None:
    nest, mouse = (
        [GivenPoint(x=9, y=9, frame=7), GivenPoint(x=8, y=8)],
        [GivenPoint(x=5, y=1, frame=3), GivenPoint(x=1, y=2, frame=50), GivenPoint(x=4, y=1, frame=3)],
    )  # fmt: skip
    chosen = choose("mouse_nest", from_sidecar={"nest": nest, "mouse": mouse})
    assert [(p.name, p.x, p.source_frame) for p in chosen.prompts] == [
        ("mouse", 4, 3), ("mouse", 5, 3), ("mouse", 1, 50), ("nest", 8, 0), ("nest", 9, 7),
    ]  # fmt: skip
    assert {p.origin for p in chosen.prompts} == {"tailor.json"}
    turned = {"nest": nest[::-1], "mouse": mouse[::-1]}
    assert choose("mouse_nest", from_sidecar=turned) == chosen


def test_the_runs_points_of_an_object_replace_all_of_tailor_jsons() -> None:
    sidecar = {"mouse": [GivenPoint(x=1, y=1), GivenPoint(x=2, y=2, frame=9)]}
    (mouse,) = choose(
        "mouse", from_run={"mouse": [GivenPoint(x=3, y=3)]}, from_sidecar=sidecar
    ).prompts
    assert (mouse.x, mouse.origin) == (3, "run config")


def test_a_fixed_point_of_the_template_is_one_and_a_persons_points_replace_it() -> None:
    nest = [GivenPoint(x=6, y=7), GivenPoint(x=8, y=9, frame=4)]
    rat = {"rat": [GivenPoint(x=1, y=2)]}
    assert [p.origin for p in choose("rat1", from_run=rat).prompts] == ["run config", "template"]
    chosen = choose("rat1", from_run=rat, from_sidecar={"nest": nest}).prompts
    assert [(p.name, p.origin) for p in chosen[1:]] == [("nest", "tailor.json")] * 2


def test_an_animal_with_several_points_is_found_once_more_where_it_was_at_that_time() -> None:
    """Of two found at frame 80, the one near b's point of frame 70, though b began near the other."""
    asked = []

    def detect(count: int) -> list[tuple[float, float, int, float]]:
        asked.append(count)
        return [(100.0, 100.0, 80, 0.9), (300.0, 300.0, 80, 0.8)]

    b = [GivenPoint(x=101, y=99), GivenPoint(x=290, y=310, frame=70)]
    chosen = choose(two_mice(), from_sidecar={"b": b}, detect=detect)
    assert asked == [2]
    assert [(p.name, p.x) for p in chosen.prompts] == [("a", 100.0), ("b", 101), ("b", 290)]


def test_two_of_which_one_is_there_gives_one_found_and_one_not() -> None:
    chosen = choose(two_mice(detect=True), detect=lambda count: [FOUND])
    assert [p.name for p in chosen.prompts] == ["a"]
    assert chosen.not_found == ("b",)


@pytest.mark.parametrize(
    ("point", "says"),
    [
        (GivenPoint(x=640, y=0), r"outside the picture.*640 x 480.*0 to 639"),
        (GivenPoint(x=0, y=480), r"y from 0 to 479"),
        (GivenPoint(x=-1, y=0), r"outside"),
        (GivenPoint(x=1e300, y=0), r"outside"),
        (GivenPoint(x=0, y=0, frame=100), r"frames 0 to 99"),
    ],
)
@pytest.mark.parametrize("source", ["from_run", "from_sidecar"])
def test_a_point_outside_is_said_with_the_remedy(point: GivenPoint, says: str, source: str) -> None:
    with pytest.raises(PermanentProblem, match=says) as problem:
        choose("mouse", **{source: {"mouse": [GivenPoint(x=1, y=1), point]}})
    assert "mouse" in str(problem.value)


def test_the_last_pixel_and_the_last_frame_are_inside() -> None:
    (mouse,) = choose("mouse", from_run={"mouse": [GivenPoint(x=639.9, y=479, frame=99)]}).prompts
    assert mouse.source_frame == 99


@pytest.mark.parametrize(
    ("source", "where"), [("from_run", "configuration"), ("from_sidecar", "tailor.json")]
)
def test_an_unknown_object_is_said_with_those_there_are(source: str, where: str) -> None:
    with pytest.raises(PermanentProblem, match=rf"{where}.*'hamster'.*mouse and nest"):
        choose("mouse_nest", **{source: {"hamster": [GivenPoint(x=1, y=1)]}})
