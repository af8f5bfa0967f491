"""``python -m tests.benchmarks.desk --records 10000000 --events 30000000``: what each page of the admin costs.

A database is filled and every page is asked for several times; printed are the number of statements and the least, the
median and the most of the milliseconds that the database took for one request (session and permissions included).
PostgreSQL is the one of ``DATABASE_URL``, else one that is started and deleted. Ends with status 1 if a median is over
the budget: run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import django
from rich.console import Console
from rich.table import Table

from demo_project.servers import postgresql_url
from tests.benchmarks.databases import databases
from tests.benchmarks.desk_rooms import fill_rooms, room_pages
from tests.benchmarks.desk_rows import KEY, OPERATION, SCOPE, fill, sizes

BUDGET_MS = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one page costs: statements, and milliseconds of the database, of several requests."""

    page: str
    statements: int
    least_ms: float
    median_ms: float
    most_ms: float
    slowest_statement_ms: float


def main(arguments: list[str]) -> int:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.desk", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--others", type=int, default=1_000_000, help="rows of the other rooms' tables")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="PATH")
    asked = parser.parse_args(arguments)
    say = Console(stderr=True).print
    with databases(postgresql_url()) as made:
        url = made.new()
        fill(url, records=asked.records, events=asked.events, say=say)
        fill_rooms(url, rows=asked.others, say=say)
        return _report(asked, url)


def _report(asked: argparse.Namespace, url: str) -> int:
    costs = measure(url, asked.rounds)
    table = Table("page", title=f"{asked.records} records, {asked.events} events", title_justify="left")
    for column in ("statements", "least ms", "median ms", "most ms", "slowest statement ms"):
        table.add_column(column, justify="right")
    for cost in costs:
        numbers = (cost.least_ms, cost.median_ms, cost.most_ms, cost.slowest_statement_ms)
        table.add_row(cost.page, str(cost.statements), *(f"{number:.1f}" for number in numbers))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    over = [cost.page for cost in costs if cost.median_ms > BUDGET_MS]
    console.print(f"budget of {BUDGET_MS:.0f} ms: {'met' if not over else 'missed by ' + ', '.join(over)}")
    facts = {"bytes": sizes(url), "budget_ms": BUDGET_MS, "records": asked.records, "events": asked.events}
    console.print(facts["bytes"])
    if asked.json:
        asked.json.write_text(json.dumps({**facts, "pages": [asdict(cost) for cost in costs]}, indent=1) + "\n")
    return 1 if over else 0


def measure(url: str, rounds: int) -> list[Cost]:
    """Ask for every page; the first request warms up and is not counted."""
    os.environ.update(DATABASE_URL=url, DJANGO_SETTINGS_MODULE="tests.benchmarks.settings")
    django.setup()
    from django.test import Client, override_settings

    with override_settings(ROOT_URLCONF="tests.urls", STATIC_URL="static/"):
        client = Client()
        client.force_login(_auditor())
        return [_cost(client, name, address, rounds) for name, address in pages()]


def _auditor() -> Any:
    """Return who looks: with permissions of their own, which cost statements too."""
    from django.contrib.auth.models import Permission, User

    user, _is_new = User.objects.get_or_create(username="auditor", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="idempotency"))
    return user


def pages() -> Iterator[tuple[str, str]]:
    """Yield the names and addresses of the pages."""
    from django.urls import reverse

    from django_idempotency.models import AuditEvent, Record

    index = reverse("admin:app_list", args=["idempotency"])
    for window in ("24h", "7d", "30d"):
        yield f"dashboard, {window}", f"{index}?window={window}"
    newest = Record.objects.exclude(completed_at=None).order_by("-id")[0]
    middle = Record.objects.filter(pk__gte=newest.pk // 2).exclude(completed_at=None).order_by("id")[0]
    after = f"{middle.completed_at.isoformat()}~{middle.pk}".replace("+", "%2B") if middle.completed_at else ""
    records = reverse("admin:idempotency_record_changelist")
    for name, query in {
        "newest": "",
        "any time": "window=all",
        "deep: half-way": f"window=all&after={after}",
        "by key": f"q={KEY}",
        "by digest": f"q={bytes(newest.digest).hex()}",
        "by request id": f"q={newest.request_id}",
        "by scope": f"q={SCOPE}",
        "no such key": "q=nobody-has-sent-this",
        "of a scope": f"scope={SCOPE}&window=all",
        "of an operation": f"operation={OPERATION.replace(' ', '+')}",
        "4xx": "response=4",
        "5xx, of which there are none": "response=5&window=all",
        "stuck": "outcome=stuck",
        "unknown": "outcome=unknown",
        "expired": "outcome=expired&window=all",
        "7 days": "window=7d",
    }.items():
        yield f"records: {name}", f"{records}?{query}"
    yield "one record", reverse("admin:idempotency_record_change", args=[newest.pk])
    yield "a decision", reverse("admin:idempotency_record_erase", args=[newest.pk])
    yield "purge preview", reverse("admin:idempotency_record_purge")
    events = reverse("admin:idempotency_auditevent_changelist")
    for name, query in {
        "newest": "",
        "any time": "window=all",
        "mismatches": "event=mismatch",
        "released, of which there are none": "event=released&window=all",
        "by digest": f"q={bytes(newest.digest).hex()[:16]}",
        "by key": f"q={KEY}",
        "of a scope": f"scope={SCOPE}",
    }.items():
        yield f"events: {name}", f"{events}?{query}"
    yield "one event", reverse("admin:idempotency_auditevent_change", args=[AuditEvent.objects.order_by("-id")[0].pk])
    yield "hourly sums", reverse("admin:idempotency_rollup_changelist") + "?window=all"
    yield from room_pages()


def _cost(client: Any, name: str, address: str, rounds: int) -> Cost:
    requests = [_timed(client, address) for _round in range(rounds + 1)][1:]
    totals = [sum(request) for request in requests]
    return Cost(
        page=name,
        statements=max(map(len, requests)),
        least_ms=min(totals),
        median_ms=median(totals),
        most_ms=max(totals),
        slowest_statement_ms=min(map(max, requests)),
    )


def _timed(client: Any, address: str) -> list[float]:
    """Return the milliseconds of each statement of a request."""
    from django.db import connection

    taken: list[float] = []
    with connection.execute_wrapper(_stopwatch(taken)):
        response = client.get(address)
    assert response.status_code == 200, (address, response.status_code)
    return taken


def _stopwatch(taken: list[float]) -> Callable[..., Any]:
    def run(execute: Callable[..., Any], *arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return execute(*arguments)
        finally:
            taken.append(1000 * (time.perf_counter() - started))

    return run


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
