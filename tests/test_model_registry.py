"""models.toml, the shipped one and a user's own."""

import hashlib
import json
from pathlib import Path

import pytest

from resources.model_registry import (
    SHIPPED_MODELS,
    ModelRegistry,
    configured_models,
    load_models,
)
from sam2_worker.request import ModelSpec
from tailor_assets.compute.errors import PermanentProblem

OWN = "tailor-nano"


def test_a_users_models_file_adds_to_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(
        '[ours]\nkind = "sam2"\nconfig = "ours.yaml"\nfile = "ours.pt"\nimage_size = 512\n'
        'precision = "fp16"\ncompile = true\n'
    )
    registry = ModelRegistry(tmp_path)
    assert set(load_models(SHIPPED_MODELS)) < set(registry.entries)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "ours.pt").touch()
    assert registry.spec(registry.get("ours")) == ModelSpec(
        name="ours",
        config=str(tmp_path / "ours.yaml"),
        checkpoint=str(tmp_path / "models" / "ours.pt"),
        image_size=512,
        precision="fp16",
        compile=True,
    )


def test_weights_beside_the_models_file_are_found_from_it(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(
        '[ours]\nkind = "sam2"\nconfig = "ours.yaml"\nfile = "./weights/ours.safetensors"\n'
        "follow = true\nrefine = true\n"
    )
    (tmp_path / "weights").mkdir()
    weights = tmp_path / "weights" / "ours.safetensors"
    weights.touch()
    registry = ModelRegistry(tmp_path, tmp_path / "everybody")
    spec = registry.spec(registry.get("ours"))
    assert spec.checkpoint == str(weights)
    assert spec.follow
    assert spec.refine


def test_every_shipped_model_with_weights_can_be_fetched_and_leaves_precision_to_the_engine() -> (
    None
):
    entries = [
        entry
        for entry in load_models(SHIPPED_MODELS).values()
        if entry.kind == "sam2" and entry.name != OWN
    ]
    assert len(entries) == 4
    for entry in entries:
        assert entry.can_be_fetched
        assert entry.size_bytes
        assert entry.image_size
        assert (entry.precision, entry.compile) == ("auto", False)


def test_tailors_own_weights_are_in_the_repository_and_say_how_they_were_trained(
    tmp_path: Path,
) -> None:
    registry = ModelRegistry(tmp_path)
    entry = registry.get(OWN)
    spec = registry.spec(entry)
    content = Path(spec.checkpoint).read_bytes()
    assert len(content) == entry.size_bytes
    assert len(content) <= 12_000_000
    assert hashlib.sha256(content).hexdigest() == entry.sha256
    # The head of a safetensors file: its length in 8 bytes, then JSON.
    head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    said = head.pop("__metadata__")
    assert {tensor["dtype"] for tensor in head.values()} == {"F16"}
    assert said["config"] == Path(spec.config).read_text()
    for training in json.loads(said["trainings"]):
        steps = sum(stage["steps"] for stage in training["recipe"]["stages"])
        assert steps - 50 < training["record"][-1]["step"] <= steps
    assert spec.follow
    assert spec.refine


def test_missing_weights_say_fetch_first_and_then_what_to_put_where(tmp_path: Path) -> None:
    registry = ModelRegistry(tmp_path, tmp_path / "everybody")
    tiny = registry.get("sam2.1-hiera-tiny")
    with pytest.raises(PermanentProblem) as problem:
        registry.checkpoint(tiny)
    sentence = str(problem.value)
    assert sentence == (
        "The weights of sam2.1-hiera-tiny are not on this machine: run `tailor fetch-model "
        "sam2.1-hiera-tiny`, or, where there is no network, put the file sam2.1_hiera_tiny.pt "
        f"(156,008,466 bytes, sha256 {tiny.sha256}, from {tiny.url}) at "
        f"{tmp_path / 'everybody' / 'sam2.1_hiera_tiny.pt'}."
    )


def test_missing_weights_of_an_own_model_are_not_said_to_be_fetchable(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(
        '[ours]\nkind = "sam2"\nconfig = "ours.yaml"\nfile = "ours.pt"\n'
    )
    registry = ModelRegistry(tmp_path)
    with pytest.raises(PermanentProblem) as problem:
        registry.checkpoint(registry.get("ours"))
    assert "fetch-model" not in str(problem.value)
    assert f"put the file ours.pt at {tmp_path / 'models' / 'ours.pt'}." in str(problem.value)


def test_an_absolute_file_stays_where_it_is_and_a_folder_within_may_be_named(
    tmp_path: Path,
) -> None:
    elsewhere = tmp_path / "elsewhere.pt"
    (tmp_path / "models.toml").write_text(
        f'[there]\nkind = "sam2"\nconfig = "x.yaml"\nfile = "{elsewhere}"\n'
        '[within]\nkind = "sam2"\nconfig = "x.yaml"\nfile = "lab/x..pt"\n'
    )
    registry = ModelRegistry(tmp_path)
    assert registry.place(registry.get("there")) == elsewhere
    assert registry.place(registry.get("within")) == tmp_path / "models" / "lab" / "x..pt"


def test_where_weights_are_is_read_from_the_environment_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TAILOR_MODELS", raising=False)
    assert configured_models().folder == tmp_path / "home" / "models"
    monkeypatch.setenv("TAILOR_MODELS", str(tmp_path / "everybody"))
    assert configured_models().folder == tmp_path / "everybody"


SAM2 = '[ours]\nkind = "sam2"\nconfig = "x.yaml"\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[ours]\nkind = "sam2"\nfile = "x.pt"\n', "needs config and file"),
        ('[ours]\nkind = "sam3"\n', "kind"),
        ('[ours]\nkind = "background"\nfiel = "x"\n', "fiel"),
        ("[ours\n", "cannot be read"),
        ("ours = 1\n", "not a table"),
        (SAM2 + 'file = "../../x"\n', "leads out of the models folder"),
        (SAM2 + 'file = "lab/../../x.pt"\n', "leads out of the models folder"),
        (SAM2 + 'file = "."\n', "not the name of a file"),
        (SAM2 + 'file = "x\\u0000.pt"\n', "not the name of a file"),
        (SAM2 + 'file = "x\\n.pt"\n', "not the name of a file"),
        (SAM2 + 'file = "x.pt"\nurl = "http://localhost/x.pt"\n', "url"),
        (SAM2 + 'file = "x.pt"\nprecision = "int8"\n', "precision"),
        (SAM2 + 'file = "x.pt"\ncompile = "perhaps"\n', "compile"),
    ],
)
def test_a_mistake_in_a_users_models_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(PermanentProblem, match=reason):
        ModelRegistry(tmp_path)
