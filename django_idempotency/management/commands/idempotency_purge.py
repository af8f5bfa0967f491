"""Deletes what has expired: records, audit events, and what else is registered for it."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_idempotency import purging
from django_idempotency.conf import settings


class Command(BaseCommand):
    """Frees space in batches that no request waits for. Whether a key is live never depends on it."""

    help = (
        "Deletes expired idempotency records, and rows of the other tables past their retention, in small batches. "
        "Safe to run at any time, as often as you like."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--store", help="Alias in IDEMPOTENCY_STORES, with its database (default: all).")
        parser.add_argument("--only", action="append", metavar="NAME", help="Only this table; repeatable.")
        parser.add_argument("--batch-size", type=int, default=1000, help="Rows a transaction (default: 1000).")
        parser.add_argument("--pause", type=float, default=0.05, help="Seconds between batches (default: 0.05).")
        parser.add_argument("--max-seconds", type=float, help="Stop after this time, between two batches.")
        parser.add_argument("--dry-run", action="store_true", help="Only count what would be deleted.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(
        self, *args: Any, store: str | None, only: list[str] | None, dry_run: bool, json: bool, **options: Any
    ) -> None:
        """Purge and say what was done."""
        _check(store, only or [], **options)
        chosen: dict[str, Any] = {"store": store, "only": only or ()}
        if dry_run:
            self._report_expired(purging.count_expired(**chosen), as_json=json)
        else:
            names = ("batch_size", "pause", "max_seconds")
            pace = {name: options[name] for name in names}
            on_batch = self._progress if options["verbosity"] > 1 else lambda table, size: None
            self._report(purging.purge(**chosen, **pace, on_batch=on_batch), as_json=json)

    def _progress(self, table: str, size: int) -> None:
        self.stderr.write(f"{size} {table} deleted")

    def _report_expired(self, counts: dict[str, int], *, as_json: bool) -> None:
        if as_json:
            tables = {table: {"expired": count, "deleted": 0, "batches": 0} for table, count in counts.items()}
            self.stdout.write(json.dumps({"tables": tables, "complete": False}))
            return
        for table, count in counts.items():
            self.stdout.write(f"{table}: {count} would be deleted.")

    def _report(self, done: purging.Purge, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(done.as_json()))
            return
        for table, counts in done.tables.items():
            self.stdout.write(f"{table}: {counts.deleted} deleted in {counts.batches} batches.")
        if not done.complete:
            self.stdout.write("Time is up; more may be left.")


def _check(
    store: str | None, only: list[str], *, batch_size: int, pause: float, max_seconds: float | None, **options: Any
) -> None:
    """Raise CommandError for arguments that make no sense."""
    if store is not None and store not in settings.STORES:
        raise CommandError(f"IDEMPOTENCY_STORES has no {store!r}; it has {', '.join(sorted(settings.STORES))}.")
    if unknown := set(only) - set(purging.table_names()):
        known = ", ".join(purging.table_names())
        raise CommandError(f"There is no table {', '.join(sorted(unknown))} to purge; there are {known}.")
    if batch_size < 1 or pause < 0 or (max_seconds or 0) < 0:
        raise CommandError("--batch-size must be at least 1, --pause and --max-seconds not negative.")
