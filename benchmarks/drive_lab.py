"""What the benchmarks of Google Drive share: a database, the test server as a process, tenants."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.database import migrate
from resources.google_drive.accounts import DriveAccount, DriveAccounts
from resources.google_drive.addresses import addresses
from resources.google_drive.api import GoogleApi
from resources.google_drive.credentials import USER_SCOPES, OAuthClient, user_credentials
from resources.google_drive.token_box import token_box
from resources.google_drive.tree import Tree, find_or_make_tree
from tailor_assets.services.postgres import embedded_postgres

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where the server is

CLIENT = OAuthClient("tailor-app", "the app's secret")


@dataclass(frozen=True)
class DriveLab:
    """``server`` is a process of its own; ``people`` does what people do."""

    folder: Path
    url: str
    server: Any
    people: Any

    def connect(self, tenant: str) -> Tree:
        """A person with a Drive that tailor may work in."""
        email = f"{tenant}@lab.example"
        self.people.add_person(email=email)
        token = self.people.grant(email=email, client=CLIENT.id, scopes=" ".join(USER_SCOPES))
        api = GoogleApi(user_credentials(token, CLIENT, addresses()))
        tree = find_or_make_tree(api, None)
        account = DriveAccount(tenant, "user", email, "", tree.videos, tree.results)
        DriveAccounts(self.url).connect(account, token, token_box())
        return tree


@contextmanager
def drive_lab(latency_s: float = 0.0) -> Iterator[DriveLab]:
    """Everything in a temporary folder, and in the environment what children need, too."""
    from cryptography.fernet import Fernet
    from google_drive_server.remote import ServerProcess

    with tempfile.TemporaryDirectory(prefix="tailor-drive-") as name:
        folder = Path(name)
        with embedded_postgres(folder / "postgres", folder / "postgres.log") as database:
            migrate(database.url)
            server = ServerProcess(folder / "server", latency_s=latency_s)
            os.environ |= {
                "TAILOR_GOOGLE_ADDRESS": server.address,
                "TAILOR_GOOGLE_CLIENT": f'{{"client_id": "{CLIENT.id}", '
                f'"client_secret": "{CLIENT.secret}"}}',
                "TAILOR_TOKEN_KEYS": Fernet.generate_key().decode(),
                "TAILOR_POSTGRES_URL": database.url,
            }
            server.people.add_client(client=CLIENT.id, secret=CLIENT.secret)
            try:
                yield DriveLab(folder, database.url, server, server.people)
            finally:
                server.stop()
