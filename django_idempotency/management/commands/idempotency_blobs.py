"""Verifies and collects what content-addressed storages keep."""

from __future__ import annotations

import getpass
import json
import re
import time
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages
from django.core.management.base import BaseCommand, CommandError

from django_idempotency.objects.collection import Collector
from django_idempotency.objects.exceptions import CollectionRefused, CollectorRunning
from django_idempotency.objects.storage import ContentAddressedStorage, content_aliases
from django_idempotency.objects.verification import Verifier

_WRONG = 3
_RUNNING = 4
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> timedelta:
    """Parse a number of seconds, or one of ``m``, ``h`` or ``d``. At least one second."""
    found = re.fullmatch(r"(\d+)([smhd]?)", text)
    if not found or not int(found[1]):
        raise ArgumentTypeError(f"{text!r} is no duration such as 48h, 7d or 3600.")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2] or "s"])


def share(text: str) -> float:
    """Parse a share such as ``1%`` or ``0.01``."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0
    if not 0 < value <= 1:
        raise ArgumentTypeError(f"{text!r} is no share such as 1% or 0.01.")
    return value


class Command(BaseCommand):
    """Reads every object back, or removes what nothing refers to."""

    help = (
        "verify: reads objects back, and moves corrupt ones into quarantine. collect: moves objects that no row refers "
        "to into quarantine, and purges them from there later. Exits with 3 if anything is corrupt or missing, 4 if "
        "another collector is at work."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the verbs and their options."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        verify = verbs.add_parser("verify", help="Read objects back.")
        verify.add_argument("--sample", type=share, default=1.0, help="Only this share of them, such as 1%%.")
        collect = verbs.add_parser("collect", help="Set aside what no row refers to.")
        collect.add_argument("--grace", type=duration, default="48h", help="Only what is older (default: 48h).")
        collect.add_argument(
            "--purge-after", type=duration, default="7d", help="Time in quarantine before it is purged (default: 7d)."
        )
        for verb in (verify, collect):
            verb.add_argument("--storage", default="", help="Alias in STORAGES (default: the only one of its kind).")
            verb.add_argument("--actor", default="", help="Who does so (default: user:<name of the system's user>).")
            verb.add_argument("--dry-run", action="store_true", help="Move and delete nothing.")
            verb.add_argument("--json", action="store_true", help="Print one JSON object.")
            verb.add_argument("-v", "--verbosity", type=int, default=1, help="2 tells the progress line by line.")

    def handle(self, *args: Any, verb: str, storage: str, actor: str, **options: Any) -> None:
        """Do it to one storage."""
        self._said_at = time.monotonic()
        self._is_told = options["verbosity"] > 1 or self.stderr.isatty()
        facts = {
            "storage": _find(storage),
            "actor": actor or f"user:{getpass.getuser()}",
            "dry_run": options["dry_run"],
        }
        self._verify(facts, options) if verb == "verify" else self._collect(facts, options)

    def _verify(self, facts: dict[str, Any], options: dict[str, Any]) -> None:
        done = Verifier(**facts, share=options["sample"]).run(self._progress)
        lines = [
            f"{done.seen} objects read, {done.size} bytes.",
            *(f"corrupt: {name}" for name in done.corrupt),
            *(f"missing: {name}" for name in done.missing),
        ]
        self._report(options, {**asdict(done), "sound": done.is_sound}, lines)
        if not done.is_sound:
            raise CommandError(f"{len(done.corrupt)} corrupt, {len(done.missing)} missing.", returncode=_WRONG)

    def _collect(self, facts: dict[str, Any], options: dict[str, Any]) -> None:
        collector = Collector(**facts, grace=options["grace"], second=options["purge_after"])
        try:
            done = collector.run(self._progress)
        except CollectorRunning as error:
            raise CommandError(str(error), returncode=_RUNNING) from error
        except CollectionRefused as error:
            raise CommandError(str(error)) from error
        would = "would be " if options["dry_run"] else ""
        lines = [
            f"{done.seen} objects: {done.referenced} referred to, {done.young} too young.",
            f"{done.set_aside} {would}set aside, {done.purged} {would}purged, {done.restored} {would}restored, "
            f"{done.leftovers} leftovers {would}deleted, {done.size} bytes.",
        ]
        self._report(options, {**asdict(done), "dry_run": options["dry_run"]}, lines)

    def _report(self, options: dict[str, Any], facts: dict[str, Any], lines: list[str]) -> None:
        self.stdout.write(json.dumps(facts) if options["json"] else "\n".join(lines))

    def _progress(self, objects: int, size: int) -> None:
        if self._is_told and time.monotonic() - self._said_at >= 1:
            self._said_at = time.monotonic()
            self.stderr.write(f"{objects} objects, {size / 2**20:.1f} MiB")


def _find(alias: str) -> ContentAddressedStorage:
    aliases = content_aliases()
    if not alias and len(aliases) == 1:
        (alias,) = aliases
    if alias not in aliases:
        raise CommandError(f"--storage must be one of: {', '.join(aliases) or 'STORAGES has none of its kind'}.")
    try:
        storage = storages[alias]
        assert isinstance(storage, ContentAddressedStorage)
        storage.writer  # noqa: B018 - made here, so that what is wrong with it is said here
    except (ImproperlyConfigured, TypeError) as error:
        raise CommandError(f"STORAGES[{alias!r}] cannot be made: {error}") from error
    return storage
