"""Takes encrypted outcomes from older keys to the newest one."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from django_idempotency.conf import settings
from django_idempotency.management.stores import database_store
from django_idempotency.stores.rotations import Rotation

_UNREADABLE = 3


class Command(BaseCommand):
    """Afterwards the older keys may be dropped. Prints ids of keys, never keys."""

    help = (
        "Encrypts outcomes anew that are kept under older keys of IDEMPOTENCY_ENCRYPTION_KEYS, in small batches. "
        "May be broken off and run again. Exits with 3 if some of them cannot be decrypted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--store", default="default", help="Alias in IDEMPOTENCY_STORES (default: default).")
        parser.add_argument("--batch-size", type=int, default=100, help="Records a transaction (default: 100).")
        parser.add_argument("--dry-run", action="store_true", help="Only count what is under older keys.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, store: str, batch_size: int, dry_run: bool, **options: Any) -> None:
        """Rotate, and say what is left."""
        if batch_size < 1:
            raise CommandError("--batch-size must be at least 1.")
        try:
            rotation = Rotation(store=database_store(store), vault=settings.vault)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        rotated, unreadable = (0, []) if dry_run else self._run(rotation, batch_size, **options)
        left = rotation.count_left()
        self._report(rotation.vault.key_id, rotated, unreadable, left, as_json=options["json"])
        if unreadable:
            raise CommandError(f"{len(unreadable)} records cannot be decrypted.", returncode=_UNREADABLE)

    def _run(self, rotation: Rotation, batch_size: int, *, verbosity: int, **options: Any) -> tuple[int, list[bytes]]:
        rotated, unreadable = 0, list[bytes]()
        for batch in rotation.run(batch_size=batch_size):
            rotated += len(batch.rotated)
            unreadable += batch.unreadable
            if verbosity > 1:
                self.stderr.write(f"{rotated} rotated")
        return rotated, unreadable

    def _report(
        self, key_id: str, rotated: int, unreadable: list[bytes], left: dict[str, int], *, as_json: bool
    ) -> None:
        if as_json:
            digests = [digest.hex() for digest in unreadable]
            facts = {"key": key_id, "rotated": rotated, "unreadable": digests, "left": left}
            self.stdout.write(json.dumps({**facts, "complete": not left}))
            return
        self.stdout.write(f"{rotated} records are under the key {key_id} now.")
        for digest in unreadable:
            self.stdout.write(f"{digest[:8].hex()} cannot be decrypted.")
        for old, count in left.items():
            self.stdout.write(f"{count} are still under the key {old}.")
