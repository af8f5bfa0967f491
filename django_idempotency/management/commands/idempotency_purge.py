"""Deletes expired records and audit events."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_idempotency.audit.models import AuditEvent, AuditEventQuerySet
from django_idempotency.conf import settings
from django_idempotency.stores import get_store
from django_idempotency.stores.base import Store


class Command(BaseCommand):
    """Frees space in batches that no request waits for. Whether a key is live never depends on it."""

    help = (
        "Deletes expired idempotency records, and audit events past their retention, in small batches. "
        "Safe to run at any time, as often as you like."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--store", default="default", help="Alias in IDEMPOTENCY_STORES (default: default).")
        parser.add_argument("--batch-size", type=int, default=5000, help="Records a transaction (default: 5000).")
        parser.add_argument("--pause", type=float, default=0.05, help="Seconds between batches (default: 0.05).")
        parser.add_argument("--max-seconds", type=float, help="Stop after this time, between two batches.")
        parser.add_argument("--dry-run", action="store_true", help="Only count what would be deleted.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, store: str, dry_run: bool, **options: Any) -> None:
        """Purge one store and say what was done."""
        if store not in settings.STORES:
            raise CommandError(f"IDEMPOTENCY_STORES has no {store!r}; it has {', '.join(sorted(settings.STORES))}.")
        if options["batch_size"] < 1 or options["pause"] < 0 or (options["max_seconds"] or 0) < 0:
            raise CommandError("--batch-size must be at least 1, --pause and --max-seconds not negative.")
        if dry_run:
            facts = {"expired": get_store(store).count_expired(), "deleted": 0, "complete": False}
            self._report(options, **facts, audit_expired=_audit(get_store(store)).count(), audit_deleted=0)
        else:
            self._report(options, **self._purge(get_store(store), **options))

    def _purge(
        self, store: Store, *, batch_size: int, pause: float, max_seconds: float | None, verbosity: int, **options: Any
    ) -> dict[str, Any]:
        started = time.monotonic()
        counts = dict.fromkeys(("deleted", "batches", "audit_deleted", "audit_batches"), 0)
        for prefix, size in _batches(store, batch_size):
            counts[f"{prefix}deleted"] += size
            counts[f"{prefix}batches"] += 1
            if verbosity > 1:
                self.stderr.write(f"{counts['deleted'] + counts['audit_deleted']} deleted")
            if max_seconds is not None and time.monotonic() - started >= max_seconds:
                return {**counts, "complete": False}
            time.sleep(pause)
        return {**counts, "complete": True}

    def _report(self, options: dict[str, Any], **facts: Any) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(facts))
        elif "expired" in facts:
            self.stdout.write(f"{facts['expired']} expired records would be deleted.")
            self.stdout.write(f"{facts['audit_expired']} audit events would be deleted.")
        else:
            rest = "" if facts["complete"] else " Time is up; more may be left."
            self.stdout.write(f"{facts['deleted']} expired records deleted in {facts['batches']} batches.")
            self.stdout.write(
                f"{facts['audit_deleted']} audit events deleted in {facts['audit_batches']} batches.{rest}"
            )


def _audit(store: Store) -> AuditEventQuerySet:
    """Return the audit events beside the records of a store whose time is over."""
    return AuditEvent.objects.using(store.alias).expired() if store.alias else AuditEvent.objects.none()


def _batches(store: Store, batch_size: int) -> Iterator[tuple[str, int]]:
    yield from (("", size) for size in store.purge(batch_size=batch_size))
    if store.alias:
        audit = AuditEvent.objects.using(store.alias)
        yield from (("audit_", size) for size in audit.purge(batch_size=batch_size))
