"""Which tenant's Drive is whose: the table ``tailor.drive_accounts``, one row per connected tenant.

Refresh tokens are in it encrypted, and leave it only as credentials.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Literal

import sqlalchemy as sa

from resources.database import engine_for, insert_for, metadata, storable
from resources.google_drive.token_box import TokenBox
from tailor_assets.compute.errors import PermanentProblem

accounts_table = sa.Table(
    "drive_accounts",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("drive_id", sa.Text),
    sa.Column("secret", sa.LargeBinary),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("problem", sa.Text),
    sa.Column("videos_folder_id", sa.Text, nullable=False),
    sa.Column("results_folder_id", sa.Text, nullable=False),
    sa.Column("connected_at", sa.DateTime(timezone=True), nullable=False),
)

AccountKind = Literal["user", "delegation", "shared_drive"]
AccountState = Literal["connected", "paused"]


@dataclass(frozen=True)
class DriveAccount:
    """A tenant's Drive.

    ``user``: a person's, by the refresh token that they gave. ``delegation``: a person's of an
    organisation whose administrator trusts tailor's service account (domain-wide delegation).
    ``shared_drive``: ``drive_id``, which the service account is a member of. ``subject`` is the
    person's address, or the service account's. ``paused`` with a ``problem`` until it is connected
    again.
    """

    tenant: str
    kind: AccountKind
    subject: str
    scopes: str
    videos_folder_id: str
    results_folder_id: str
    drive_id: str | None = None
    state: AccountState = "connected"
    problem: str | None = None
    connected_at: datetime | None = None


_FIELDS = [field.name for field in fields(DriveAccount)]


class DriveAccounts:
    """The table."""

    def __init__(self, url: str) -> None:
        """``url`` is the database's."""
        self._url = url

    def all(self) -> list[DriveAccount]:
        """Every account, by tenant."""
        query = sa.select(accounts_table).order_by(accounts_table.c.tenant)
        with engine_for(self._url).begin() as connection:
            return [_account(row) for row in connection.execute(query).mappings()]

    def get(self, tenant: str) -> DriveAccount:
        """A tenant's. Raises PermanentProblem for one that is not connected."""
        query = sa.select(accounts_table).where(accounts_table.c.tenant == storable(tenant))
        with engine_for(self._url).begin() as connection:
            row = connection.execute(query).mappings().first()
        if row is None or row["tenant"] != tenant:
            raise PermanentProblem(
                f"The tenant {tenant!r} has no Google Drive: connect one with `tailor connect`."
            )
        return _account(row)

    def connect(self, account: DriveAccount, refresh_token: str | None, box: TokenBox) -> None:
        """Remember an account, in the place of an earlier one of the tenant.

        The Drive is listed anew; where it is another one, what was published is not in it.
        """
        # It knows all tables, and all who have one know this module.
        from resources.google_drive.forgetting import forget_inbox, forget_results

        values = {name: getattr(account, name) for name in _FIELDS} | {
            "secret": None if refresh_token is None else box.lock(refresh_token),
            "connected_at": datetime.now(UTC),
        }
        with engine_for(self._url).begin() as connection:
            forget_inbox(connection, account.tenant)
            results = connection.execute(
                sa.select(accounts_table.c.results_folder_id).where(
                    accounts_table.c.tenant == account.tenant
                )
            ).scalar()
            if results != account.results_folder_id:
                forget_results(connection, account.tenant)
            connection.execute(
                insert_for(connection)(accounts_table)
                .values(values)
                .on_conflict_do_update(
                    index_elements=["tenant"],
                    set_={k: v for k, v in values.items() if k != "tenant"},
                )
            )

    def refresh_token(self, tenant: str, box: TokenBox) -> str:
        """A user's token. Raises PermanentProblem where there is none, or the key is another."""
        query = sa.select(accounts_table.c.secret).where(accounts_table.c.tenant == tenant)
        with engine_for(self._url).begin() as connection:
            secret = connection.execute(query).scalar()
        if secret is None:
            raise PermanentProblem(
                f"No token of {tenant!r} is stored: connect it with `tailor connect`."
            )
        return box.open(bytes(secret))

    def pause(self, tenant: str, problem: str) -> bool:
        """Leave a tenant alone until it is connected again. Returns whether it was not paused yet."""
        table = accounts_table
        with engine_for(self._url).begin() as connection:
            done = connection.execute(
                sa.update(table)
                .where(table.c.tenant == tenant, table.c.state == "connected")
                .values(state="paused", problem=problem)
            )
        return done.rowcount > 0

    def disconnect(self, tenant: str) -> bool:
        """Forget the account, its token, and where things are in its Drive.

        Returns whether there was one.
        """
        from resources.google_drive.forgetting import forget_inbox, forget_results, forget_units

        with engine_for(self._url).begin() as connection:
            for forget in (forget_inbox, forget_results, forget_units):
                forget(connection, tenant)
            done = connection.execute(
                sa.delete(accounts_table).where(accounts_table.c.tenant == tenant)
            )
        return done.rowcount > 0

    def relock(self, box: TokenBox) -> int:
        """Encrypt every token with the first key; returns how many there are.

        A tenant whose token none of the keys decrypts is paused, and the others go on.
        """
        table = accounts_table
        done = 0
        with engine_for(self._url).begin() as connection:
            rows: Sequence[sa.Row] = connection.execute(
                sa.select(table.c.tenant, table.c.secret)
                .where(table.c.secret.is_not(None))
                .with_for_update()
            ).all()
            for tenant, secret in rows:
                values: dict[str, object]
                try:
                    values = {"secret": box.relock(bytes(secret))}
                    done += 1
                except PermanentProblem as problem:
                    values = {"state": "paused", "problem": str(problem)}
                connection.execute(sa.update(table).where(table.c.tenant == tenant).values(values))
        return done


def _account(row: sa.RowMapping) -> DriveAccount:
    return DriveAccount(**{name: row[name] for name in _FIELDS})
