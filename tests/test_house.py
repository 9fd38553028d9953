"""The rules of the house that no linter checks: what is imported when, and what every asset says."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from tailor_assets.definitions import build_defs

HOUSE = Path(__file__).resolve().parents[1]
ROOMS = ("tailor_assets", "resources", "sensors", "jobs", "run_queue", "sam2_worker")
HEAVY = (
    "torch", "sam2", "cv2", "av", "decord", "googleapiclient", "scipy", "sklearn", "joblib",
    "skops", "skimage", "PIL", "matplotlib", "pandas", "pynwb", "hdmf", "h5py",
)  # fmt: skip
# Who may import whom: a room may import itself and those before it. Four single files are open to
# others: run_queue's failure.py, by which assets fail, and usage.py, by which they keep accounts; and
# what passes between a run and its worker: request.py and hand_over.py.
_OPEN = ("run_queue.failure", "run_queue.usage")
MAY_IMPORT = {
    "compute": {"compute"},
    "resources": {"compute", "resources", "sam2_worker.request", "sam2_worker.hand_over"},
    "assets": {"compute", "resources", "assets", *_OPEN},
    "jobs": {"compute", "resources", "assets", "jobs", "run_queue", *_OPEN},
    "sensors": {"compute", "resources", "assets", "jobs", "sensors", "run_queue", *_OPEN},
}
# The rooms in the order data flows, and what builds on everything.
BUILDERS = {"definitions.py", "cli.py", "operator_cli.py", "commands", "services", "monitoring"}


def modules() -> list[Path]:
    return [path for room in ROOMS for path in sorted((HOUSE / room).rglob("*.py"))]


def in_a_new_process(code: str, **environment: str) -> str:
    """Run code in a Python of its own, with nothing but PATH and HOME in its environment."""
    plain = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=HOUSE,
        env=plain | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loading_the_definitions_imports_nothing_heavy() -> None:
    code = (
        "import sys, time; start = time.monotonic(); import tailor_assets.definitions;"
        "print(round(time.monotonic() - start, 2));"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    seconds, heavy = in_a_new_process(code).split("\n")[:2]
    print(f"the definitions load in {seconds} s here and now")
    assert heavy == ""


def test_loading_the_command_imports_no_dagster() -> None:
    code = "import sys, tailor_assets.cli; print('dagster' in sys.modules)"
    assert in_a_new_process(code).strip() == "False", "tailor --help answers at once"


# Catches every reading of the environment by files under HOUSE, with its place.
WATCH = """
import os, sys
import dagster, dagster_pipes, polars, pydantic, sqlalchemy, upath, alembic, psutil, rich, numpy
caught = []
def note():
    # The reader is outside os and _collections_abc, through which get and getenv go.
    frame = sys._getframe(2)
    while frame and frame.f_globals.get("__name__") in ("os", "collections.abc"):
        frame = frame.f_back
    file = frame.f_code.co_filename if frame else ""
    # The Makefile's environments lie inside the house, and are not ours.
    if file.startswith(HOUSE) and "site-packages" not in file:
        caught.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
class Watched(type(os.environ)):
    def __getitem__(self, key):
        note()
        return super().__getitem__(key)
    def __contains__(self, key):
        note()
        return super().__contains__(key)
    def __iter__(self):
        note()
        return super().__iter__()
os.environ.__class__ = Watched
"""


def test_nothing_of_ours_reads_the_environment_while_it_is_imported() -> None:
    code = """
import importlib, pkgutil
import tailor_assets.definitions, tailor_assets.cli
for room in ("resources", "sensors", "jobs", "run_queue"):
    package = importlib.import_module(room)
    for module in pkgutil.walk_packages(package.__path__, room + "."):
        if ".migrations" not in module.name:
            importlib.import_module(module.name)
print(*caught, sep="\\n")
"""
    assert in_a_new_process(f"HOUSE = {str(HOUSE)!r}\n{WATCH}\n{code}").split() == []


def test_the_watch_over_the_environment_sees_every_way_of_reading(tmp_path: Path) -> None:
    """The test above would be worth nothing if it caught nothing."""
    ways = [
        'os.environ.get("A")', 'os.getenv("A")', '"A" in os.environ', 'os.environ["PATH"]',
        "list(os.environ)", "os.environ.copy()",
    ]  # fmt: skip
    (tmp_path / "reader.py").write_text("import os\n" + "\n".join(ways))
    code = f"sys.path.insert(0, {str(tmp_path)!r}); import reader; print(*caught)"
    caught = in_a_new_process(f"HOUSE = {str(tmp_path)!r}\n{WATCH}\n{code}").split()
    lines = {int(place.rsplit(":", 1)[1]) for place in caught}
    assert lines == set(range(2, 2 + len(ways)))


def test_the_definitions_load_without_any_variable_set() -> None:
    code = """
import dagster as dg
from tailor_assets.definitions import defs
dg.Definitions.validate_loadable(defs)
print(sorted(job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__")))
"""
    assert in_a_new_process(code).strip() == (
        "['cancel_runs', 'pause_queue', 'process_video', 'publish_frames', 'reprioritise_runs', "
        "'rescore_video', 'resume_queue', 'retrain', 'retry_runs', 'train_behavior_model']"
    )


ASSETS = [
    "video", "frames", "prompts", "masks", "features", "predictions", "flags",
    "published_results", "published_frames", "behavior_model", "report", "overlay_video",
    "published_overlay", "cohort_summary",
]  # fmt: skip
OF_ALL_VIDEOS = ("behavior_model", "cohort_summary")  # one for all of them, so without partitions


def test_there_are_exactly_the_assets_of_the_design() -> None:
    keys = build_defs().resolve_asset_graph().get_all_asset_keys()
    assert {key.to_user_string() for key in keys} == set(ASSETS)


@pytest.mark.parametrize("name", ASSETS)
def test_every_asset_says_what_it_is_and_whose(name: str) -> None:
    definitions = build_defs()
    (spec,) = (s for s in definitions.resolve_all_asset_specs() if s.key == dg.AssetKey(name))
    assert spec.description
    assert len(spec.description) > 40
    assert spec.kinds
    assert spec.group_name not in {None, "default"}
    assert spec.owners
    assert spec.code_version
    if name in OF_ALL_VIDEOS:
        assert spec.partitions_def is None
        return
    assert isinstance(spec.partitions_def, dg.DynamicPartitionsDefinition)
    assert spec.partitions_def.name == "videos"


@pytest.mark.parametrize("name", ["video", "frames", "masks", "features", "predictions", "flags"])
def test_a_bad_artifact_is_stopped_by_a_blocking_check_of_its_own_partition(name: str) -> None:
    asset_graph = build_defs().resolve_asset_graph()
    checks = [key for key in asset_graph.asset_check_keys if key.asset_key == dg.AssetKey(name)]
    assert len(checks) == 1
    spec = asset_graph.get_check_spec(checks[0])
    assert spec.blocking
    assert spec.partitions_def is not None
    assert spec.description


def test_no_asset_has_a_retry_policy_because_those_undo_a_cancel() -> None:
    for asset in build_defs().assets or []:
        if isinstance(asset, dg.AssetsDefinition):
            assert asset.op.retry_policy is None, asset.op.name


def test_only_masks_hold_the_gpu() -> None:
    pools = {
        asset.op.name: asset.op.pool
        for asset in build_defs().assets or []
        if isinstance(asset, dg.AssetsDefinition)
    }
    assert {name for name, pool in pools.items() if pool} == {"masks"}
    assert pools["masks"] == "gpu"


def test_the_jobs_run_in_one_process() -> None:
    for job in build_defs().resolve_all_job_defs():
        assert job.executor_def.name == "in_process", job.name


def test_sensors_run_from_the_start_and_the_inbox_is_looked_into_often() -> None:
    sensors = {sensor.name: sensor for sensor in build_defs().sensors or []}
    for sensor in sensors.values():
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert (sensors["drive_inbox"].minimum_interval_seconds or 30) <= 5


# What the files themselves say


def imported(path: Path, *, only_at_import: bool) -> set[str]:
    """Modules that a file imports; those inside functions only where asked for."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and only_at_import:
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.level == 0:
                module = child.module or ""
                found.update(f"{module}.{alias.name}" for alias in child.names)
            walk(child)

    walk(ast.parse(path.read_text()))
    return found


def room_of(module: str) -> str | None:
    """The room, by the names of MAY_IMPORT, of a module of ours; None for anybody else's."""
    parts = module.split(".")
    if parts[0] not in ROOMS:
        return None
    if parts[0] == "tailor_assets":
        return "compute" if parts[1:2] == ["compute"] else "assets"
    for file in (*_OPEN, "sam2_worker.request", "sam2_worker.hand_over"):
        if module.startswith(file):
            return file
    return parts[0]


def checked_modules() -> list[Path]:
    files = []
    for path in modules():
        place = path.relative_to(HOUSE)
        if place.parts[0] in {"run_queue", "sam2_worker"} or place.parts[1] in BUILDERS:
            continue
        files.append(path)
    return files


@pytest.mark.parametrize("path", checked_modules(), ids=lambda p: str(p.relative_to(HOUSE)))
def test_a_file_imports_only_what_stands_before_it(path: Path) -> None:
    place = path.relative_to(HOUSE)
    own = room_of(".".join(place.with_suffix("").parts)) or ""
    for module in imported(path, only_at_import=True):
        room = room_of(module)
        if room is not None and module != "tailor_assets.version.TAILOR_VERSION":
            assert room in MAY_IMPORT[own], f"{place} imports {module}"
    if own == "compute":
        everything = {name.split(".")[0] for name in imported(path, only_at_import=False)}
        assert not everything & {"dagster", "dagster_pipes", "resources"}, place


@pytest.mark.parametrize(
    "path",
    [p for p in modules() if "compute" not in p.parts and "sam2_worker" not in p.parts],
    ids=lambda p: str(p.relative_to(HOUSE)),
)
def test_outside_compute_nothing_heavy_is_imported_before_it_is_needed(path: Path) -> None:
    names = {name.split(".")[0] for name in imported(path, only_at_import=True)}
    assert not names & set(HEAVY)


def test_annotations_from_the_future_stay_in_compute_where_dagster_never_looks() -> None:
    offenders = [
        str(path.relative_to(HOUSE))
        for path in modules()
        if "__future__.annotations" in imported(path, only_at_import=True)
        and "compute" not in path.parts
    ]
    assert offenders == []


def test_every_folder_is_a_package_and_tests_are_none() -> None:
    for path in modules():
        assert (path.parent / "__init__.py").is_file(), path.parent
    assert not (HOUSE / "tests" / "__init__.py").exists()
    # But for the server that stands for Google's, which is run as a process, too.
    folders = {p.name for p in (HOUSE / "tests").iterdir() if p.is_dir()} - {"__pycache__"}
    assert folders <= {"google_drive_server"}


def test_every_module_says_what_it_is() -> None:
    for path in modules():
        if path.name != "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), path
