"""``tailor reconcile``: what the event handlers missed, found and mended now."""

from resources.artifact_store import ArtifactStore
from resources.configured_drive import ConfiguredDrive
from resources.settings import load_settings
from run_queue.reconciler import mend
from run_queue.reconciling.look import Look
from run_queue.retention_policy import load_retention_policy
from tailor_assets.commands.serve import running_registry


def reconcile() -> list[str]:
    """Do what the sensor does every five minutes, files included; sentences for people.

    Raises PermanentProblem when no tailor is up here.
    """
    from tailor_assets.services.health import open_instance

    registry, settings = running_registry(), load_settings()
    with open_instance(settings.home / "dagster", registry.url) as instance:
        look = Look(
            instance,
            registry,
            ArtifactStore(),
            ConfiguredDrive().open(),
            settings.home,
            load_retention_policy().memory,
        )
        said = mend(look, sweep=True)
    if said is None:
        return ["Another look is under way."]
    return said or ["Nothing was to be mended."]
