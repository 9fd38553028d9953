"""models.toml, the shipped one and a user's own."""

from pathlib import Path

import pytest

from resources.model_registry import SHIPPED_MODELS, ModelRegistry, load_models
from sam2_worker.request import ModelSpec
from tailor_assets.compute.errors import PermanentProblem


def test_a_users_models_file_adds_to_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(
        '[ours]\nkind = "sam2"\nconfig = "ours.yaml"\nfile = "ours.pt"\nimage_size = 512\n'
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
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[ours]\nkind = "sam2"\nfile = "x.pt"\n', "needs config and file"),
        ('[ours]\nkind = "sam3"\n', "kind"),
        ('[ours]\nkind = "background"\nfiel = "x"\n', "fiel"),
        ("[ours\n", "cannot be read"),
        ("ours = 1\n", "not a table"),
    ],
)
def test_a_mistake_in_a_users_models_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(PermanentProblem, match=reason):
        ModelRegistry(tmp_path)
