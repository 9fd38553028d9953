"""``tailor demo``: simulated videos from a Drive folder to flags, with the web page to watch it."""

import json
import logging
import shutil
import time
from pathlib import Path

from rich.live import Live
from rich.table import Table

from resources.settings import Settings, load_settings
from tailor_assets.commands.terminal import console, progress_bars
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.progress import LogProgress

TENANTS = ("demo-lab-a", "demo-lab-b")
_GIVE_UP_AFTER_S = 600.0
_LOOK_EVERY_S = 0.5
# Fixed, so that what a newcomer sees is what was looked at before it was shipped.
_SEED = 3


def demo(*, port: int, count: int, seconds: float, exit_at_end: bool) -> int:
    """Start everything, drop ``count`` simulated videos, wait for their manifests.

    Returns 0 when all results are there. Without ``exit_at_end`` the web page stays up until
    Ctrl-C. Raises PermanentProblem when something cannot start or a video fails.
    """
    from tailor_assets.compute.simulation.simulate import sample_videos
    from tailor_assets.services.start import start_services

    if count < 1 or seconds <= 0:
        raise PermanentProblem("A demo needs at least one video of some length.")
    settings = load_settings()
    started = time.monotonic()
    samples = settings.home / "demo_videos"
    with progress_bars():
        progress = LogProgress(logging.getLogger("tailor"), "making sample videos", "frames")
        made = sample_videos(samples, count, _SEED, seconds, progress=progress)
    with (
        console.status("starting") as status,
        start_services(
            settings.home, postgres_url=settings.postgres_url, port=port, report=status.update
        ) as running,
    ):
        status.stop()
        console.print(f"[bold]Watch it in the browser: {running.web_url}[/]")
        dropped = time.monotonic()
        results = [
            _drop(path, settings, TENANTS[n % len(TENANTS)], f"demo {n + 1:02d}")
            for n, path in enumerate(made)
        ]
        _wait_for(results, running, until=time.monotonic() + _GIVE_UP_AFTER_S)
        console.print(
            f"\n[bold green]{len(results)} videos done[/], {time.monotonic() - dropped:.0f} s after "
            f"they were put into the Drive, {time.monotonic() - started:.0f} s in all."
        )
        for folder in results:
            print(folder)
        if not exit_at_end:
            console.print(f"Everything stays up at {running.web_url}; Ctrl-C stops it.")
            while True:
                running.check()
                time.sleep(1.0)
    return 0


def _drop(video: Path, settings: Settings, tenant: str, stem: str) -> Path:
    """Put a video into a tenant's Drive under a name not used yet; returns the results folder."""
    videos = settings.drive_root / tenant / "tailor" / "videos"
    number, name = 1, stem
    while (videos / name).exists():
        number += 1
        name = f"{stem} again {number}"
    folder = videos / name
    folder.mkdir(parents=True)
    shutil.copyfile(video, folder / f"{video.name}.part")
    (folder / "tailor.json").write_text(json.dumps(_settings(video)))
    (folder / f"{video.name}.part").rename(folder / video.name)
    return settings.drive_root / tenant / "tailor" / "results" / name


def _settings(video: Path) -> dict[str, object]:
    """What a person would have said of the video: where its nest is. The mouse is found anyway."""
    truth = json.loads(video.with_name(f"{video.stem}_truth.json").read_text())
    if truth["nest_point"] is None:
        return {"template": "mouse", "px_per_cm": truth["px_per_cm"]}
    return {
        "template": "mouse_nest",
        "points": {"nest": truth["nest_point"]},
        "px_per_cm": truth["px_per_cm"],
    }


def _wait_for(results: list[Path], running: object, until: float) -> None:
    """Show the state of every video until all have a manifest. Raises PermanentProblem."""
    import dagster as dg

    instance: dg.DagsterInstance = running.instance  # type: ignore[attr-defined]
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            running.check()  # type: ignore[attr-defined]
            states = {
                run.tags.get("tailor/video", ""): run
                for run in reversed(instance.get_runs(limit=4 * len(results) + 20))
                if "tailor/video" in run.tags
            }
            table = Table("video", "state")
            waiting = 0
            for folder in results:
                run = states.get(folder.name)
                done = (folder / "manifest.json").exists()
                waiting += not done
                state = "done" if done else run.status.value.lower() if run else "not seen yet"
                table.add_row(folder.name, state)
                if not done and run is not None and run.status == dg.DagsterRunStatus.FAILURE:
                    raise PermanentProblem(
                        f"The run of {folder.name} failed; the web page's run {run.run_id[:8]} "
                        "says why."
                    )
            live.update(table)
            if not waiting:
                return
            if time.monotonic() > until:
                raise PermanentProblem(
                    f"{waiting} videos are not done after {_GIVE_UP_AFTER_S:.0f} s: look at the "
                    "runs in the web page and at the logs."
                )
            time.sleep(_LOOK_EVERY_S)
