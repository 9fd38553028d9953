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
    run = {"rat": GivenPoint(x=1, y=2, frame=3)}
    sidecar = {"rat": GivenPoint(x=4, y=5), "nest": GivenPoint(x=6, y=7)}
    rat, nest = choose("rat1", from_run=run, from_sidecar=sidecar).prompts
    assert (rat.x, rat.y, rat.source_frame, rat.origin) == (1, 2, 3, "run config")
    assert (nest.x, nest.y, nest.source_frame, nest.origin) == (6, 7, 0, "tailor.json")
    _, nest = choose("rat1", from_run=run).prompts
    assert (nest.x, nest.y, nest.origin) == (0.2 * 639, 0.25 * 479, "template")


def test_a_fixed_point_at_the_edge_is_inside_the_picture() -> None:
    template = two_mice(point=[1.0, 1.0])
    _, b = choose(template, from_run={"a": GivenPoint(x=0, y=0)}, width=1, height=1).prompts
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

    chosen = choose(two_mice(), from_sidecar={"b": GivenPoint(x=103, y=99)}, detect=detect)
    assert asked == [2]
    assert [(p.name, p.x) for p in chosen.prompts] == [("a", 300.0), ("b", 103.0)]


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
        choose("mouse", **{source: {"mouse": point}})
    assert "mouse" in str(problem.value)


def test_the_last_pixel_and_the_last_frame_are_inside() -> None:
    (mouse,) = choose("mouse", from_run={"mouse": GivenPoint(x=639.9, y=479, frame=99)}).prompts
    assert mouse.source_frame == 99


@pytest.mark.parametrize(
    ("source", "where"), [("from_run", "configuration"), ("from_sidecar", "tailor.json")]
)
def test_an_unknown_object_is_said_with_those_there_are(source: str, where: str) -> None:
    with pytest.raises(PermanentProblem, match=rf"{where}.*'hamster'.*mouse and nest"):
        choose("mouse_nest", **{source: {"hamster": GivenPoint(x=1, y=1)}})
