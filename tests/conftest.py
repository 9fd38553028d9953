"""Fixtures shared by all tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import sqlalchemy as sa
from toy_services import new_home

from tailor_assets.services.postgres import embedded_postgres

if TYPE_CHECKING:
    from crash_lab import CrashLab
    from dagster import DagsterInstance
    from drive_trees import GoogleTree

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _no_worker_waits() -> Iterator[None]:
    """A test leaves no process, but for those that are about workers that wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILOR_WORKER_LINGER_S", "0")
        yield


@pytest.fixture(scope="session", autouse=True)
def _a_home_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test that notes something in TAILOR_HOME does not note it in a person's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILOR_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _segmenter_without_an_environment_of_its_own() -> Iterator[None]:
    """`make test` has no SAM2 environment; tests marked sam2 name their segmenter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILOR_SEGMENTER", "background")
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings beside the project; tests that need it skip visibly without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real recordings are not here ({SHARED_DATA})")
    return SHARED_DATA


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL, for all tests of this process."""
    with (
        new_home() as folder,
        embedded_postgres(folder / "postgres", folder / "postgres.log") as server,
    ):
        yield server.url


@pytest.fixture(scope="module")
def postgres_url(postgres_server: str) -> str:
    """An empty database for this file, without any of tailor's tables yet."""
    name = f"file_{uuid4().hex[:12]}"
    server = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    server.dispose()
    url = sa.make_url(postgres_server).set(database=name)
    return url.render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def url(postgres_url: str) -> str:
    """The database of this file, with tailor's tables."""
    from resources.database import migrate

    migrate(postgres_url)
    return postgres_url


@pytest.fixture
def google(url: str, tmp_path: Path) -> Iterator["GoogleTree"]:
    """Google Drive on a test server of its own, with one tenant, ben."""
    from drive_trees import google_tree

    with google_tree(url, tmp_path) as tree:
        tree.add_tenant("ben")
        yield tree


@pytest.fixture(scope="module")
def shared_instance(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["DagsterInstance"]:
    """Dagster as in production, but for its daemons, in this file's database."""
    from queue_history import instance_in

    with instance_in(postgres_url, tmp_path_factory.mktemp("dagster")) as instance:
        yield instance


@pytest.fixture(scope="module")
def lab() -> Iterator["CrashLab"]:
    """The whole of tailor, running; each test of the file has tenants of its own."""
    from crash_lab import crash_lab

    with crash_lab() as lab:
        lab.up()
        yield lab


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of a simulated mouse, 320 x 240: a video to be processed while things are killed."""
    from tailor_assets.compute.simulation.simulate import simulate_video

    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    simulate_video(path, seed=11, duration_s=4, width=320, height=240)
    return path


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of a simulated mouse and its nest, 320 x 240 at 30 frames/s.

    Its truth lies beside it: ``clip_truth.npz`` and ``clip_truth.csv``.
    """
    # Heavy, and most tests need no clip.
    from tailor_assets.compute.simulation.simulate import simulate_video

    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    simulate_video(path, seed=11, duration_s=3, width=320, height=240)
    return path
