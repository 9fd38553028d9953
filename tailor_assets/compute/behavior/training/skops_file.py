"""A fitted estimator in a file that is data and no program: written and read by skops.

Every type and every way of building one that the file names has to be on the lists below before
anything of it is built. The lists are what the three kinds of estimators are made of, and no more;
skops alone would let in all of scikit-learn.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tailor_assets.compute.errors import PermanentProblem

# What skops does not take for granted: it has to be trusted by name.
TRUSTED_TYPES = (
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)
ALLOWED_TYPES = frozenset(
    {
        *TRUSTED_TYPES,
        "builtins.bool",
        "builtins.dict",
        "builtins.float",
        "builtins.int",
        "builtins.list",
        "builtins.str",
        "builtins.tuple",
        "numpy.bool",
        "numpy.float64",
        "numpy.int64",
        "numpy.ndarray",
        "numpy.random._generator.Generator",
        "numpy.uint64",
        "sklearn._loss._loss.CyHalfBinomialLoss",
        "sklearn._loss._loss.CyHalfMultinomialLoss",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.link.MultinomialLogit",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfMultinomialLoss",
        "sklearn.ensemble._forest.RandomForestClassifier",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
        "sklearn.impute._base.MissingIndicator",
        "sklearn.impute._base.SimpleImputer",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.preprocessing._label.LabelEncoder",
        "sklearn.tree._classes.DecisionTreeClassifier",
    }
)
_ALLOWED_LOADERS = frozenset(
    f"{kind}Node"
    for kind in (
        "DType", "Dict", "Json", "List", "Loss", "NdArray", "Object", "RandomGenerator", "Tree",
        "Tuple", "Type",
    )
)  # fmt: skip
_DEFLATE_LEVEL = 6
_LARGEST_BYTES = 2 << 30
_THEN = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP file can say


def write_estimator(estimator: Any, path: Path) -> None:
    """Write it so that equal estimators give equal files.

    skops numbers objects by their place in memory and the archive notes the time, so both are put
    in order afterwards.
    """
    import skops.io

    path.write_bytes(_in_order(skops.io.dumps(estimator)))


def read_estimator(path: Path) -> Any:
    """Read what ``write_estimator`` wrote.

    Raises PermanentProblem for a file that is damaged or holds a type that is not on the list.
    """
    import skops.io

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > _LARGEST_BYTES:
                raise PermanentProblem(
                    f"The behaviour model {path} would take {size / 1e9:.1f} GB of memory, so it is "
                    "not loaded; train a smaller one."
                )
            schema = json.loads(archive.read("schema.json"))
        strangers = sorted({*skops.io.get_untrusted_types(file=path), *_types(schema)})
        strangers = [name for name in strangers if name not in ALLOWED_TYPES]
    except PermanentProblem:
        raise
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise _damaged(path, error) from error
    if strangers:
        raise PermanentProblem(
            f"The behaviour model {path} holds {', '.join(strangers[:3])}, which is no part of a "
            "classifier that tailor trains, so it is not loaded; train the model here."
        )
    try:
        return skops.io.load(path, trusted=TRUSTED_TYPES)
    except Exception as error:
        raise _damaged(path, error) from error


def _types(schema: Any) -> Iterator[str]:
    """Types that a file names, and ways of building that are not allowed."""
    if isinstance(schema, list):
        for item in schema:
            yield from _types(item)
    elif isinstance(schema, dict):
        if "__class__" in schema or "__module__" in schema:
            yield f"{schema.get('__module__')}.{schema.get('__class__')}"
        if "__loader__" in schema and schema["__loader__"] not in _ALLOWED_LOADERS:
            yield str(schema["__loader__"])
        for item in schema.values():
            yield from _types(item)


def _damaged(path: Path, error: Exception) -> PermanentProblem:
    words = " ".join(str(error).split())[:200]
    return PermanentProblem(
        f"The behaviour model {path} cannot be loaded ({type(error).__name__}: {words}); train it "
        "again or go back to an earlier version."
    )


def _in_order(content: bytes) -> bytes:
    """The same archive with objects numbered as they come and no time in it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files.pop("schema.json"))
    objects: dict[int, int] = {}
    names: dict[str, str] = {}

    def renamed(value: Any) -> Any:
        if isinstance(value, list):
            return [renamed(item) for item in value]
        if not isinstance(value, dict):
            return value
        out: dict[str, Any] = {}
        for key, item in value.items():
            if key == "__id__" and isinstance(item, int):
                out[key] = objects.setdefault(item, len(objects))
            elif key == "file" and isinstance(item, str) and item in files:
                ending = re.search(r"\.\w+$", item)
                out[key] = names.setdefault(item, f"{len(names)}{ending[0] if ending else ''}")
            else:
                out[key] = renamed(item)
        return out

    schema = renamed(schema)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        ordered = {"schema.json": json.dumps(schema, sort_keys=True).encode()}
        ordered |= {new: files[old] for old, new in names.items()}
        for name, data in ordered.items():
            entry = zipfile.ZipInfo(name, _THEN)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data, compresslevel=_DEFLATE_LEVEL)
    return buffer.getvalue()
