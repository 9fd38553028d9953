"""``tailor costs``: what was made for whom, how long it took, and what it has cost."""

import json
from datetime import UTC, date, datetime
from typing import Any, Literal

import sqlalchemy as sa

from resources.database import engine_for
from tailor_assets.compute.errors import PermanentProblem

CostsBy = Literal["tenant", "video", "month"]

# The view of migration 0006; not among the metadata's tables, of which it is made.
_COSTS = sa.table(
    "job_costs",
    sa.column("job_id"),
    sa.column("partition_key"),
    sa.column("tenant"),
    sa.column("accepted_at", sa.DateTime(timezone=True)),
    sa.column("attempts", sa.Integer),
    sa.column("start_wait_seconds", sa.Float),
    sa.column("run_seconds", sa.Float),
    sa.column("gpu_seconds", sa.Float),
    sa.column("api_units", sa.BigInteger),
    sa.column("bytes_downloaded", sa.BigInteger),
    sa.column("bytes_uploaded", sa.BigInteger),
    schema="tailor",
)
_SUMS = (
    "attempts",
    "run_seconds",
    "gpu_seconds",
    "api_units",
    "bytes_downloaded",
    "bytes_uploaded",
)


def show_costs(
    url: str,
    *,
    tenant: str | None = None,
    since: str | None = None,
    by: CostsBy = "tenant",
    as_json: bool = False,
) -> None:
    """Print ``costs`` as a table for people, or as JSON."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Column, Table

    found = costs(url, tenant=tenant, since=since, by=by)
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    # A name that is cut short names nothing.
    table = Table(Column(by, overflow="fold"), box=None, header_style="bold")
    for heading in ("jobs", "attempts", "mean wait", "run", "GPU", "units", "down", "up"):
        table.add_column(heading, justify="right")
    for row in found:
        table.add_row(
            row[by] or "-",
            f"{row['jobs']:,}",
            f"{row['attempts']:,}",
            _duration(row["mean_wait_seconds"]),
            _duration(row["run_seconds"]),
            _duration(row["gpu_seconds"]),
            f"{row['api_units']:,}",
            decimal(row["bytes_downloaded"]),
            decimal(row["bytes_uploaded"]),
        )
    Console().print(table)


def costs(
    url: str, *, tenant: str | None = None, since: str | None = None, by: CostsBy = "tenant"
) -> list[dict[str, Any]]:
    """Sums over the jobs accepted from the day ``since`` (YYYY-MM-DD, UTC) on, in plain values.

    One row per tenant, video (partition) or month (UTC) of acceptance; ``mean_wait_seconds`` is from
    acceptance to the first start. Raises PermanentProblem for what is no day.
    """
    group: sa.ColumnElement[Any] = {
        "tenant": _COSTS.c.tenant,
        "video": _COSTS.c.partition_key,
        "month": sa.func.to_char(sa.func.timezone("UTC", _COSTS.c.accepted_at), "YYYY-MM"),
    }[by]
    query = sa.select(
        group.label(by),
        sa.func.count().label("jobs"),
        sa.func.avg(_COSTS.c.start_wait_seconds).label("mean_wait_seconds"),
        *(sa.func.sum(_COSTS.c[name]).label(name) for name in _SUMS),
    )
    if tenant is not None:
        query = query.where(_COSTS.c.tenant == tenant)
    if since is not None:
        query = query.where(_COSTS.c.accepted_at >= _midnight(since))
    with engine_for(url).begin() as connection:
        rows = connection.execute(query.group_by(sa.text("1")).order_by(sa.text("1"))).mappings()
        return [_plain(row) for row in rows]


def _plain(row: sa.RowMapping) -> dict[str, Any]:
    """Sums of PostgreSQL's are decimals, which JSON does not know."""
    return {
        str(name): round(float(value), 3)
        if str(name).endswith("_seconds")
        else (value if isinstance(value, str | None) else int(value))
        for name, value in row.items()
    }


def _midnight(day: str) -> datetime:
    try:
        wanted = date.fromisoformat(day)
    except ValueError:
        raise PermanentProblem(f"{day!r} is no day: write it as 2026-05-31.") from None
    return datetime(wanted.year, wanted.month, wanted.day, tzinfo=UTC)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
