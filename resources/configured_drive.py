"""Which Drive this installation works on: a folder, or everybody's Google Drive."""

from abc import abstractmethod

import dagster as dg

from resources.drive import Drive
from resources.settings import load_settings


class DriveResource(dg.ConfigurableResource):
    """What assets and sensors are given: something that opens a Drive."""

    @abstractmethod
    def open(self) -> Drive:
        """The Drive."""


class ConfiguredDrive(DriveResource):
    """The one that ``TAILOR_DRIVE`` names, read when it is opened: ``local`` or ``google``."""

    def open(self) -> Drive:
        """Raises PermanentProblem for a word that names none."""
        # Google's libraries take half a second to import, which a folder need not cost.
        if load_settings().drive == "google":
            from resources.google_drive.drive import GoogleDriveResource

            return GoogleDriveResource().open()
        from resources.local_drive import LocalDrive

        return LocalDrive().open()
