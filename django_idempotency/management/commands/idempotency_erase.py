"""Erases what is known of a subject, and keeps its operations from running again."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_idempotency.management.stores import database_store, system_user
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.erasures import Rows, erasable, erase, records_of, unsettled
from django_idempotency.stores.resolution import Decision

_NO_SUCH_RECORD, _UNSETTLED = 3, 4


class Command(BaseCommand):
    """Asks nothing, and prints neither keys nor bodies."""

    help = (
        "Blanks response headers, bodies, results of steps and keys of a scope, or of single keys. A retry is told "
        "that the operation is done (409), and never runs it again. Exits with 3 if there is no such record, with 4 "
        "if some are not completed: settle those with idempotency_release, and run this again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--scope", default="", help="The scope, as the admin shows it.")
        parser.add_argument("--key", nargs="+", default=[], help="Client's keys; with --scope, only within that.")
        parser.add_argument("--operation", default="", help="Only this operation, as the admin shows it.")
        parser.add_argument("--reason", default="", help="Why. Required for any change, kept in the audit.")
        parser.add_argument("--actor", default="", help="Who decides so (default: user:<name of the system's user>).")
        parser.add_argument("--dry-run", action="store_true", help="Only count what would be erased.")
        parser.add_argument("--store", default="default", help="Alias in IDEMPOTENCY_STORES (default: default).")
        parser.add_argument("--batch-size", type=int, default=500, help="Records a transaction (default: 500).")
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, scope: str, key: list[str], operation: str, **options: Any) -> None:
        """Erase, and say what is left."""
        if not scope and not key:
            raise CommandError("Name the subject by --scope, or its records by --key.")
        if not (options["reason"] or options["dry_run"]):
            raise CommandError("A change needs a --reason.")
        if options["batch_size"] < 1:
            raise CommandError("--batch-size must be at least 1.")
        store = database_store(options["store"])
        rows = records_of(store.alias, scope=scope, keys=key, operation=operation)
        if not rows.exists():
            raise CommandError("There is no such record.", returncode=_NO_SUCH_RECORD)
        erased = erasable(rows).count() if options["dry_run"] else _erase(store, rows, options)
        left = [bytes(digest).hex() for digest in unsettled(rows).values_list("digest", flat=True)]
        self._report(erased, left, **options)

    def _report(self, erased: int, left: list[str], *, dry_run: bool, **options: Any) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({"erased": erased, "unsettled": left, "dry_run": dry_run}))
        else:
            self.stdout.write(f"{erased} records {'would be' if dry_run else 'are'} erased.")
        if left:
            prefixes = ", ".join(digest[:16] for digest in left)
            raise CommandError(f"{len(left)} are not completed: {prefixes}.", returncode=_UNSETTLED)


def _erase(store: DatabaseStore, rows: Rows, options: dict[str, Any]) -> int:
    decision = Decision(actor=options["actor"] or system_user(), reason=options["reason"])
    return sum(erase(store, rows, decision, batch_size=options["batch_size"]))
