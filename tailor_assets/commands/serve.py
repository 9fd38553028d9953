"""``tailor up``: everything that watches the Drive, in the foreground until somebody stops it."""

import time

from resources.settings import Settings, load_settings
from resources.video_registry import VideoRegistry
from tailor_assets.commands.terminal import console
from tailor_assets.compute.errors import PermanentProblem

_LOOK_EVERY_S = 1.0


def serve(*, port: int, gpus: int, metrics_port: int) -> None:
    """Run until Ctrl-C or SIGTERM. Raises PermanentProblem when it cannot start or go on."""
    from tailor_assets.services.start import start_services

    settings = load_settings()
    settings.drive_root.mkdir(parents=True, exist_ok=True)
    with (
        console.status("starting") as status,
        start_services(
            settings.home,
            postgres_url=settings.postgres_url,
            port=port,
            gpus=gpus,
            metrics_port=metrics_port,
            report=status.update,
        ) as running,
    ):
        status.stop()
        console.print(f"[bold]tailor is up: {running.web_url}[/]")
        console.print(_where_to_put_videos(settings))
        console.print(f"Logs: {settings.home / 'logs'}. Ctrl-C stops.")
        _encrypt_anew(running.postgres_url, drives=settings.drive == "google")
        while True:
            running.check()
            time.sleep(_LOOK_EVERY_S)


def _where_to_put_videos(settings: Settings) -> str:
    if settings.drive == "google":
        return (
            "Videos are looked for in tailor/videos/<name>/ of every Google Drive that is connected "
            "(`tailor connect`, `tailor drives`); results appear in tailor/results/<name>/."
        )
    return (
        f"Put each video into {settings.drive_root}/<tenant>/tailor/videos/<name>/; results appear in "
        ".../tailor/results/<name>/."
    )


def _encrypt_anew(url: str, *, drives: bool) -> None:
    """With the first of the keys, so that an old one can leave the environment."""
    from resources.notifications.preferences import relock_webhooks

    relock_webhooks(url)
    if not drives:
        return
    from resources.google_drive.accounts import DriveAccounts
    from resources.google_drive.token_box import token_box
    from resources.google_drive.upload_ledger import relock_sessions

    box = token_box()
    DriveAccounts(url).relock(box)
    relock_sessions(url, box)


def running_registry() -> VideoRegistry:
    """The registry of the tailor that is up on this machine.

    Raises PermanentProblem when none is.
    """
    from tailor_assets.services.start import running_postgres_url

    settings = load_settings()
    url = settings.postgres_url or running_postgres_url(settings.home)
    if url is None:
        raise PermanentProblem("tailor is not up here: start it with `tailor up`.")
    return VideoRegistry(url=url)
