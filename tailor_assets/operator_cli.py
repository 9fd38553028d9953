"""The ``tailor`` commands of whoever keeps it running: queue, health, costs, notifications, audit."""

import argparse
from typing import Any

from tailor_assets.compute.errors import PermanentProblem


def add_operator_commands(commands: Any) -> None:
    """Add them to ``commands``, what ``ArgumentParser.add_subparsers`` has returned."""
    _add_queue(commands)

    quota = commands.add_parser("quota", help="how much of the queue a tenant may have")
    quota.add_argument("tenant", nargs="?", help="without one: everybody's limits")
    for name, what in (
        ("concurrent", "jobs under way at a time"),
        ("per-day", "jobs a day (UTC)"),
        ("per-month", "jobs a month (UTC)"),
    ):
        quota.add_argument(f"--{name}", metavar="N", help=f"{what}, or `off`")
    quota.set_defaults(command=_quota)

    health = commands.add_parser(
        "health", help="whether all that tailor needs is well; exit status 1 if not"
    )
    health.add_argument("--json", action="store_true", help="for programs")
    health.set_defaults(command=_health)

    reconcile = commands.add_parser("reconcile", help="find what was missed, and mend it now")
    reconcile.set_defaults(command=_reconcile)

    costs = commands.add_parser("costs", help="what was made for whom, and what it has cost")
    costs.add_argument("--tenant", help="only this tenant's")
    costs.add_argument(
        "--since", metavar="DATE", help="jobs accepted from this day on, e.g. 2026-05-31"
    )
    costs.add_argument(
        "--by", choices=("tenant", "video", "month"), default="tenant", help="[tenant]"
    )
    costs.add_argument("--json", action="store_true", help="for programs")
    costs.set_defaults(command=_costs)

    notify = commands.add_parser("notify", help="who is told what, by e-mail and Slack")
    notify.add_argument("tenant", nargs="?", help="without one: everybody, and the operators")
    notify.add_argument("--email", metavar="ADDRESS", help="an address, or off")
    notify.add_argument("--slack", metavar="WEBHOOK", help="env:NAME, the webhook, or off")
    notify.add_argument(
        "--on", metavar="WHAT", help="started, finished, failed, with commas [finished,failed]"
    )
    notify.add_argument("--off", action="store_true", help="tell the tenant nothing any more")
    notify.add_argument("--test", action="store_true", help="send a message now, to try it")
    notify.set_defaults(command=_notify)

    audit = commands.add_parser(
        "audit", help="what was decided, by whom, and whether the log is whole"
    )
    audits = audit.add_subparsers(dest="audit", required=True, metavar="WHAT")
    verify = audits.add_parser(
        "verify", help="find any change of the log; exit status 1 if there is one"
    )
    verify.set_defaults(command=_audit_verify)
    show = audits.add_parser("show", help="the newest records, the newest last")
    show.add_argument("--last", type=int, default=50, metavar="N", help="so many [50]")
    show.add_argument("--json", action="store_true", help="for programs: one object per line")
    show.set_defaults(command=_audit_show)


def _add_queue(commands: Any) -> None:
    queue = commands.add_parser("queue", help="what waits and runs; move, cancel, retry, pause")
    queue.set_defaults(command=_queue_list, json=False, tenant=None, all=False)
    doings = queue.add_subparsers(metavar="WHAT")
    listing = doings.add_parser("list", help="what waits, runs and is parked, in order")
    listing.add_argument("--tenant", help="only this tenant's")
    listing.add_argument("--all", action="store_true", help="also what is finished")
    listing.add_argument("--json", action="store_true", help="for programs: one object per line")
    listing.set_defaults(command=_queue_list)
    why = doings.add_parser("why", help="what a job waits for, its place, its estimated start")
    why.add_argument("name", metavar="RUN", help="a run, a job (8 characters do) or a video's key")
    why.set_defaults(command=_queue_why)
    for word, what in (
        ("cancel", "cancel jobs, wherever they stand"),
        ("retry", "try parked or cancelled jobs again"),
    ):
        doing = doings.add_parser(word, help=what)
        doing.add_argument("names", nargs="+", metavar="RUN")
        doing.add_argument("--reason", default="by command", help="kept in the audit")
        doing.set_defaults(command=_queue_do, doing=word)
    move = doings.add_parser("priority", help="1: urgent, 5: normal, 10: low")
    move.add_argument("priority", type=int, choices=(1, 5, 10))
    move.add_argument("names", nargs="+", metavar="RUN")
    move.add_argument("--reason", default="by command", help="kept in the audit")
    move.set_defaults(command=_queue_do, doing="priority")
    for word, what in (
        ("pause", "start nothing more; what is under way goes on"),
        ("resume", "start runs again"),
    ):
        doing = doings.add_parser(word, help=what)
        doing.add_argument("--reason", default="by command", help="kept in the audit")
        doing.set_defaults(command=_queue_hold, doing=word, what="operator")
    doing.add_argument(
        "--what",
        choices=("operator", "heat", "depth", "failures"),
        help="which pause [an operator's]",
    )


def _queue_list(options: argparse.Namespace) -> None:
    from tailor_assets.commands.queue import list_queue

    for line in list_queue(tenant=options.tenant, finished=options.all, as_json=options.json):
        print(line)


def _queue_why(options: argparse.Namespace) -> None:
    from tailor_assets.commands.queue import why

    for line in why(options.name):
        print(line)


def _queue_do(options: argparse.Namespace) -> int:
    from tailor_assets.commands.queue import do_to_jobs

    return do_to_jobs(
        options.doing, options.names, options.reason, priority=getattr(options, "priority", None)
    )


def _queue_hold(options: argparse.Namespace) -> None:
    from tailor_assets.commands.queue import hold

    print(hold(options.doing, options.reason, options.what))


def _quota(options: argparse.Namespace) -> None:
    from tailor_assets.commands.queue import list_quotas, set_quota

    changes = {
        name: value
        for name in ("concurrent", "per_day", "per_month")
        if (value := getattr(options, name)) is not None
    }
    if changes and options.tenant is None:
        raise PermanentProblem("Say whose: tailor quota TENANT ...")
    if changes:
        set_quota(options.tenant, changes)
    for line in list_quotas(options.tenant):
        print(line)


def _health(options: argparse.Namespace) -> int:
    from tailor_assets.commands.health import health

    return health(as_json=options.json)


def _reconcile(options: argparse.Namespace) -> None:
    from tailor_assets.commands.reconcile import reconcile

    for line in reconcile():
        print(line)


def _costs(options: argparse.Namespace) -> None:
    from tailor_assets.commands.costs import show_costs
    from tailor_assets.commands.serve import running_registry

    show_costs(
        running_registry().database_url,
        tenant=options.tenant,
        since=options.since,
        by=options.by,
        as_json=options.json,
    )


def _notify(options: argparse.Namespace) -> int:
    from tailor_assets.commands.notify import (
        change_notifications,
        list_notifications,
        try_notifications,
    )

    changes = options.off or any(x is not None for x in (options.email, options.slack, options.on))
    if changes and options.tenant is None:
        raise PermanentProblem("Say whose: tailor notify TENANT ...")
    if changes:
        print(
            change_notifications(
                options.tenant,
                email=options.email,
                slack=options.slack,
                events=options.on,
                off=options.off,
            )
        )
    if options.test:
        lines, all_went = try_notifications(options.tenant)
        print(*lines, sep="\n")
        return 0 if all_went else 1
    if not changes:
        print(*list_notifications(options.tenant), sep="\n")
    return 0


def _audit_verify(options: argparse.Namespace) -> int:
    from tailor_assets.commands.audit import verify_audit

    return verify_audit()


def _audit_show(options: argparse.Namespace) -> None:
    from tailor_assets.commands.audit import show_audit

    show_audit(last=options.last, as_json=options.json)
