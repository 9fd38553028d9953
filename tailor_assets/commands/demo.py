"""``tailor demo``: simulated videos from a Drive to flags, with the web page to watch it."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from rich.live import Live
from rich.table import Table

from resources.settings import load_settings
from tailor_assets.commands.demo_drives import TENANTS, DemoDrive, Dropped, demo_drive
from tailor_assets.commands.terminal import console, progress_bars
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.progress import LogProgress

_GIVE_UP_AFTER_S = 600.0
_LOOK_EVERY_S = 0.5
# Fixed, so that what a newcomer sees is what was looked at before it was shipped.
_SEED = 3


def demo(*, port: int, count: int, seconds: float, drive: str, exit_at_end: bool) -> int:
    """Start everything, drop ``count`` simulated videos, wait for their manifests.

    ``drive``: ``local``, or ``google-test`` for a server that speaks Google Drive's protocol.
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
        demo_drive(drive, settings) as source,
        console.status("starting") as status,
        start_services(
            settings.home,
            postgres_url=settings.postgres_url,
            port=port,
            environment=source.environment,
            report=status.update,
        ) as running,
    ):
        status.stop()
        source.connect(running.postgres_url)
        console.print(f"[bold]Watch it in the browser: {running.web_url}[/]")
        dropped = time.monotonic()
        videos = [
            source.drop(
                path, json.dumps(_settings(path)), TENANTS[n % len(TENANTS)], f"demo {n + 1:02d}"
            )
            for n, path in enumerate(made)
        ]
        _wait_for(videos, source, running, until=time.monotonic() + _GIVE_UP_AFTER_S)
        console.print(
            f"\n[bold green]{len(videos)} videos done[/], {time.monotonic() - dropped:.0f} s after "
            f"they were put into the Drive, {time.monotonic() - started:.0f} s in all."
        )
        for video in videos:
            print(source.where(video))
        if not exit_at_end:
            console.print(f"Everything stays up at {running.web_url}; Ctrl-C stops it.")
            while True:
                running.check()
                time.sleep(1.0)
    return 0


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


def _wait_for(videos: Sequence[Dropped], source: DemoDrive, running: object, until: float) -> None:
    """Show the state of every video until all have a manifest. Raises PermanentProblem."""
    import dagster as dg

    instance: dg.DagsterInstance = running.instance  # type: ignore[attr-defined]
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            running.check()  # type: ignore[attr-defined]
            states = {
                run.tags.get("tailor/video", ""): run
                for run in reversed(instance.get_runs(limit=4 * len(videos) + 20))
                if "tailor/video" in run.tags
            }
            table = Table("video", "state")
            waiting = 0
            for video in videos:
                run = states.get(video.name)
                done = source.is_done(video)
                waiting += not done
                state = "done" if done else run.status.value.lower() if run else "not seen yet"
                table.add_row(video.name, state)
                if not done and run is not None and run.status == dg.DagsterRunStatus.FAILURE:
                    raise PermanentProblem(
                        f"The run of {video.name} failed; the web page's run {run.run_id[:8]} "
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
