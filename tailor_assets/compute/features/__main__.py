"""``python -m tailor_assets.compute.features``: write docs/features.md from the declarations."""

from pathlib import Path

from tailor_assets.compute.features.features_page import features_page

PAGE = Path(__file__).resolve().parents[3] / "docs" / "features.md"

if __name__ == "__main__":
    PAGE.write_text(features_page(), encoding="utf-8")
