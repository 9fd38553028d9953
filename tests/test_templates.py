"""Analysis templates: those that come with tailor, and a laboratory's own."""

from pathlib import Path

import pytest

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.scoring import species_of
from tailor_assets.templates import Template, choose_template, load_templates

OWN = """
[two_mice]
description = "Two mice"
feature_set = "mouse"
fps = 5.0
[[two_mice.objects]]
name = "left"
kind = "animal"
point = [0.25, 0.5]
[[two_mice.objects]]
name = "right"
kind = "animal"
"""


def own_file(folder: Path, text: str) -> Path:
    path = folder / "templates.toml"
    path.write_text(text)
    return path


def test_the_templates_that_come_with_tailor_are_valid_and_complete() -> None:
    templates = load_templates()
    assert {"mouse", "mouse_nest", "rat1", "rat2", "rat3", "rat4", "rat5"} <= set(templates)
    assert templates["mouse_nest"].subject == "mouse"
    assert templates["mouse_nest"].nest == "nest"
    for template in templates.values():
        assert template.description
        assert (template.feature_set == "rat_only") <= (template.nest is None)
        for item in template.objects:
            assert (item.kind == "animal") == (item.name != "nest")


def test_the_shipped_rat_templates_need_nobody() -> None:
    for name in ("rat1", "rat2", "rat3", "rat4", "rat5"):
        assert all(o.point or o.detect for o in load_templates()[name].objects)


def test_a_laboratorys_own_file_adds_templates_and_replaces_those_of_one_name(
    tmp_path: Path,
) -> None:
    templates = load_templates(own_file(tmp_path, OWN + OWN.replace("two_mice", "mouse")))
    assert templates["two_mice"].fps == 5.0
    assert templates["two_mice"].subject == "left"
    assert [o.name for o in templates["mouse"].objects] == ["left", "right"]
    assert "rat5" in templates


def test_no_own_file_is_no_problem(tmp_path: Path) -> None:
    assert load_templates(tmp_path / "none.toml") == load_templates()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("[two_mice]", "[two_mice"), "TOML"),
        (('kind = "animal"', 'kind = "bird"'), "kind"),
        (("0.25, 0.5", "0.25, 1.5"), "fractions"),
        (("0.25, 0.5", "nan, 0.5"), "fractions"),
        (('name = "left"', 'name = "right"'), "same name"),
        (('name = "left"', 'name = "Left Mouse"'), "pattern"),
        (('kind = "animal"', 'kind = "nest"'), "no object is an animal"),
        (("fps = 5.0", "fps = 0"), "greater than 0"),
        (("fps = 5.0", "stride = 0"), "greater than or equal to 1"),
        (("fps = 5.0", "fps = 5.0\nstride = 2"), "stride or fps"),
        (("fps = 5.0", "colour = 3"), "colour"),
        (('feature_set = "mouse"', 'feature_set = "cat"'), "feature_set"),
        (("point = [0.25, 0.5]", 'kind2 = "x"'), "kind2"),
        ((OWN, "just = 3"), "just"),
        ((OWN, "[empty]\nfeature_set='mouse'\nobjects=[]"), "objects"),
    ],
)
def test_a_mistake_in_the_own_file_is_said_with_its_place(
    tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    path = own_file(tmp_path, OWN.replace(*change))
    with pytest.raises(PermanentProblem, match=says) as problem:
        load_templates(path)
    assert str(path) in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_nest_is_never_found_automatically(tmp_path: Path) -> None:
    text = OWN + '[[two_mice.objects]]\nname = "nest"\nkind = "nest"\ndetect = true\n'
    with pytest.raises(PermanentProblem, match="only animals"):
        load_templates(own_file(tmp_path, text))


def test_two_nests_are_refused(tmp_path: Path) -> None:
    nests = "".join(f'[[two_mice.objects]]\nname = "n{i}"\nkind = "nest"\n' for i in (1, 2))
    with pytest.raises(PermanentProblem, match="only one nest"):
        load_templates(own_file(tmp_path, OWN + nests))


def choose(name: str | None, *pointed_at: str) -> Template:
    return choose_template(load_templates(), name, set(pointed_at))


def test_without_a_name_the_points_decide() -> None:
    assert choose(None).name == "mouse"
    assert choose(None, "mouse").name == "mouse"
    assert choose(None, "nest").name == "mouse_nest"
    assert choose(None, "rat").name == "rat1"


def test_a_name_wins_over_points() -> None:
    assert choose("rat5", "mouse").name == "rat5"


@pytest.mark.parametrize("name", ["moose", "", "../mouse", "\0"])
def test_an_unknown_template_is_said_with_those_there_are(name: str) -> None:
    with pytest.raises(PermanentProblem, match=r"no template .*choose one of mouse, mouse_nest"):
        choose(name)


def test_points_that_fit_no_template_are_said() -> None:
    with pytest.raises(PermanentProblem, match="hamster"):
        choose(None, "mouse", "hamster")


def test_a_template_of_rats_has_rats_measured_by_a_rats_body() -> None:
    species = {name: species_of(one.feature_set) for name, one in load_templates().items()}
    assert {name for name, kind in species.items() if kind == "rat"} == {
        name for name in species if name.startswith("rat")
    }
    assert set(species.values()) == {"mouse", "rat"}
    assert [species_of(one) for one in ("mouse", "rat", "rat_only")] == ["mouse", "rat", "rat"]
