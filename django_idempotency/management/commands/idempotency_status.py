"""Says how things stand: what waits, what was asked for, what was asked for twice."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from django_idempotency.audit.figures import answered, duplicate_rate, summed_until
from django_idempotency.gauges import registered
from django_idempotency.management.stores import database_store
from django_idempotency.models import AuditEvent, Record
from django_idempotency.stores.figures import Amount, Standing, bytes_of, executed, standing, total

_DAY = timedelta(hours=24)
_OPERATIONS = 10


class Command(BaseCommand):
    """Cheap on large tables, and prints neither keys nor bodies."""

    help = (
        "Counts records by status, leases that are over, unknown outcomes, and the requests of the last 24 hours by "
        "outcome and operation. Large numbers are estimates, and said to be."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--store", default="default", help="Alias in IDEMPOTENCY_STORES (default: default).")
        parser.add_argument("--watch", type=float, metavar="SECONDS", help="Say it again and again, until interrupted.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object, with --watch one a line.")

    def handle(self, *args: Any, store: str, watch: float | None, **options: Any) -> None:
        """Look once, or until interrupted."""
        if watch is not None and watch <= 0:
            raise CommandError("--watch needs a number of seconds.")
        alias = database_store(store).alias
        try:
            while True:
                self._tell(status(alias), as_json=options["json"])
                if watch is None:
                    return
                self.stdout.flush()
                time.sleep(watch)
        except KeyboardInterrupt:
            return

    def _tell(self, facts: dict[str, Any], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(facts, default=_as_json))
            return
        for name, value in facts.items():
            self.stdout.write(f"{name}: {_as_text(value)}")


def status(alias: str) -> dict[str, Any]:
    """Return all figures of a database; those of the last 24 hours begin with a full hour once sums are kept."""
    now = timezone.now()
    return {**_records(standing(alias)), **_gauges(alias), **_sizes(alias), **_requests(alias, now - _DAY)}


def _records(seen: Standing) -> dict[str, Any]:
    return {
        "records": seen.total,
        "in_progress": seen.in_progress,
        "released": seen.released,
        "unknown": seen.unknown,
        "stuck": seen.lapsed,
        "oldest_waiting_seconds": _seconds(seen.oldest_waiting),
        "oldest_expired_seconds": _seconds(seen.oldest_expired),
    }


def _gauges(alias: str) -> dict[str, Any]:
    """Return what the rooms register, by gauge and labels; those without labels are plain numbers."""
    told: dict[str, Any] = {}
    for board in registered():
        if alias in board.aliases():
            told |= {gauge.name: {} if gauge.labels else None for gauge in board.gauges}
            for reading in board.read(alias):
                value = _whole(reading.value)
                if reading.values:
                    told[reading.gauge.name][" / ".join(reading.values)] = value
                else:
                    told[reading.gauge.name] = value
    return told


def _whole(value: float) -> float:
    return int(value) if value == int(value) else round(value, 1)


def _sizes(alias: str) -> dict[str, Any]:
    tables = {"records": Record, "audit": AuditEvent}
    sizes = {name: bytes_of(alias, model) for name, model in tables.items()}
    return {"audit_events": total(alias, AuditEvent), "bytes": sizes}


def _requests(alias: str, since: datetime) -> dict[str, Any]:
    until = summed_until(alias, since)
    tally = answered(alias, since, until).plus("executed", executed(alias, until))
    rates = tally.by_operation()
    return {
        "since": since,
        "outcomes": tally.outcomes,
        "duplicate_rate": _rounded(duplicate_rate(tally.outcomes)),
        "duplicate_rates": {name: _rounded(rates[name]) for name in list(rates)[:_OPERATIONS]},
    }


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 4)


def _seconds(age: timedelta | None) -> float | None:
    return None if age is None else round(age.total_seconds(), 1)


def _as_json(value: Any) -> Any:
    if isinstance(value, Amount):
        return {"rows": value.rows, "kind": value.kind}
    return value.isoformat()


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_as_text(each)}" for name, each in value.items()) or "none"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return "none" if value is None else str(value)
