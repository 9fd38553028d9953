"""``tailor.json``: what people write, and what they write wrongly."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.templates import load_templates, sampling_of
from tailor_assets.video_settings import (
    GivenPoint,
    VideoSettings,
    parse_points,
    parse_settings,
)


@pytest.mark.parametrize("text", [None, "", "  \n", "{}", "\ufeff", '{"points": null}'])
def test_nothing_said_is_all_defaults(text: str | None) -> None:
    assert parse_settings(text) == VideoSettings()


def test_everything_that_can_be_said_is_understood() -> None:
    settings = parse_settings(
        """{"template": "mouse_nest", "stride": 3, "fps_override": 25, "px_per_cm": 12.5,
        "points": {"mouse": [10, 20], "nest": [1.5, 2, 30], "x": {"x": 1, "y": 2, "frame": 3}}}"""
    )
    assert settings.template == "mouse_nest"
    assert (settings.stride, settings.fps) == (3, None)
    assert (settings.fps_override, settings.px_per_cm) == (25, 12.5)
    assert settings.points == {
        "mouse": (GivenPoint(x=10, y=20),),
        "nest": (GivenPoint(x=1.5, y=2, frame=30),),
        "x": (GivenPoint(x=1, y=2, frame=3),),
    }


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("[10, 20]", [(10, 20, 0)]),
        ("[10, 20, 3]", [(10, 20, 3)]),
        ("[[10, 20]]", [(10, 20, 0)]),
        ("[[119, 140, 0], [300, 200, 900]]", [(119, 140, 0), (300, 200, 900)]),
        ("[[300, 200, 900], [1, 2], [3, 4]]", [(300, 200, 900), (1, 2, 0), (3, 4, 0)]),
        ('[{"x": 1, "y": 2, "frame": 3}, [4, 5, 6]]', [(1, 2, 3), (4, 5, 6)]),
        ("[[1, 2], [1, 2, 5]]", [(1, 2, 0), (1, 2, 5)]),
    ],
)
def test_an_object_has_one_point_or_a_list_of_points(
    text: str, points: list[tuple[float, float, int]]
) -> None:
    given = parse_settings(f'{{"points": {{"mouse": {text}}}}}').points["mouse"]
    assert [(p.x, p.y, p.frame) for p in given] == points
    assert parse_points({"mouse": json.loads(text)}, "The run's configuration")["mouse"] == given


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([[1, 2], [3]], r"mouse, point 2: a point is \[x, y\] or \[x, y, frame\]"),
        ([[1, 2], [3, 4, -5]], r"mouse, point 2\.frame"),
        ([[1, 2], [3, 4], {"x": 5, "z": 6}], r"mouse, point 3\.y"),
        ([[1, 2], 3], r"mouse, point 2"),
        ([1, [2, 3]], r"mouse, point 1"),
        ([], r"mouse, point 1"),
        ([[]], r"mouse, point 1"),
        (None, r"mouse, point 1"),
        ("1,2", r"mouse, point 1"),
        ([[7, 8], [1, 2], [1, 2, 0]], r"mouse: the point \(1, 2\) is given twice"),
        (
            [[1, 2, 30], {"x": 1, "y": 2, "frame": 30}],
            r"mouse: the point \(1, 2, 30\) is given twice",
        ),
    ],
)
def test_a_mistake_in_one_of_several_points_is_said_of_that_point(
    points: object, says: str
) -> None:
    with pytest.raises(PermanentProblem, match=rf"^tailor\.json is not valid, points\.{says}"):
        parse_settings(json.dumps({"points": {"mouse": points}}))
    with pytest.raises(PermanentProblem, match=rf"^--point is not valid, {says}"):
        parse_points({"mouse": points}, "--point")


def test_a_file_from_a_windows_editor_is_read() -> None:
    assert parse_settings('\ufeff{"stride": 2}\r\n').stride == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("{'stride': 2}", "not valid JSON"),
        ('{"stride": 2,}', "not valid JSON"),
        ("[1, 2]", "must be an object"),
        ('"mouse"', "must be an object"),
        ('{"strid": 2}', "strid"),
        ('{"stride": 0}', "stride"),
        ('{"stride": 2.5}', "stride"),
        ('{"stride": 1000000000000}', "stride"),
        ('{"fps": -1}', "fps"),
        ('{"fps": NaN}', "fps"),
        ('{"fps": Infinity}', "fps"),
        ('{"stride": 2, "fps": 10}', "stride or fps, not both"),
        ('{"fps_override": 0}', "fps_override"),
        ('{"px_per_cm": 1e-300}', "px_per_cm"),
        ('{"points": {"mouse": [1]}}', "mouse"),
        ('{"points": {"mouse": [1, 2, 3, 4]}}', "mouse"),
        ('{"points": {"mouse": [1, 2, 0.5]}}', "mouse"),
        ('{"points": {"mouse": [1, 2, -1]}}', "mouse"),
        ('{"points": {"mouse": ["left", "top"]}}', "mouse"),
        ('{"points": {"mouse": [1, NaN]}}', "mouse"),
        ('{"points": {"mouse": "119,140"}}', "mouse"),
        ('{"points": [["mouse", 1, 2]]}', "points"),
        ('{"stride": ' + "9" * 5000 + "}", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"\\u0000\\ud800\\n": 1}', "not valid"),
    ],
)
def test_a_mistake_is_said_in_one_sentence_with_its_place(text: str, says: str) -> None:
    with pytest.raises(PermanentProblem, match=says) as problem:
        parse_settings(text)
    sentence = str(problem.value)
    assert sentence.startswith("tailor.json ")
    assert "\n" not in sentence
    assert "\0" not in sentence
    sentence.encode()
    assert len(sentence) < 400


@given(st.text(max_size=200))
def test_any_text_is_settings_or_one_problem(text: str) -> None:
    try:
        parse_settings(text)
    except PermanentProblem as problem:
        str(problem).encode()


def test_only_what_decides_the_frames_is_sampling() -> None:
    templates = load_templates()
    fast = templates["rat1"].model_copy(update={"name": "fast", "fps": 50.0})
    templates |= {"fast": fast}

    def sampling(text: str) -> tuple[object, ...]:
        return sampling_of(parse_settings(text), templates)

    for text in ('{"points": {"mouse": [1, 2]}, "px_per_cm": 3}', '{"template": "rat1"}',
                 '{"arena": [[40, 30], [600, 30], [600, 450]]}'):  # fmt: skip
        assert sampling(text) == sampling("{}")
    for text in ('{"stride": 2}', '{"fps": 2}', '{"fps_override": 2}', '{"template": "fast"}',
                 '{"template": "unknown"}', '{"points": {"unknown": [1, 2]}}'):  # fmt: skip
        assert sampling(text) != sampling("{}")


def test_an_arena_is_an_outline_of_corners() -> None:
    settings = parse_settings('{"arena": [[40, 30], {"x": 600, "y": 30}, [600.5, 450]]}')
    assert settings.arena_outline() == [(40, 30), (600, 30), (600.5, 450)]
    assert parse_settings('{"arena": null}').arena_outline() is None


@pytest.mark.parametrize(
    ("arena", "says"),
    [
        ("[[1, 2], [3, 4]]", "arena: .*three or more corners"),
        ("[[1, 2], [3, 4, 5], [6, 7]]", r"arena, corner 2: a corner is \[x, y\]"),
        ('[[1, 2], [3, "x"], [6, 7]]', "arena, corner 2"),
        ("[[0, 0], [10, 10], [10, 0], [0, 12]]", "crosses itself"),
        ("7", "arena"),
    ],
)
def test_what_is_no_arena_is_refused_and_named(arena: str, says: str) -> None:
    with pytest.raises(PermanentProblem, match=says) as problem:
        parse_settings(f'{{"arena": {arena}}}')
    assert str(problem.value).startswith("tailor.json is not valid, arena")
