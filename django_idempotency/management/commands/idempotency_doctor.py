"""Says whether stores, databases, Redis and settings are well, and what to do where they are not."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from django_idempotency.conf import settings
from django_idempotency.stores import get_store
from django_idempotency.stores.base import Store
from django_idempotency.stores.caches import redis_of
from django_idempotency.stores.diagnosis.databases import examine_database
from django_idempotency.stores.diagnosis.findings import Finding, Level, guarded
from django_idempotency.stores.diagnosis.servers import examine_server
from django_idempotency.stores.diagnosis.trials import examine_store

# Findings about the server say so already.
_SAID_OTHERWISE = ("idempotency.W037",)


class Command(BaseCommand):
    """Tries everything, leaves nothing behind, and prints neither addresses nor keys nor bodies."""

    help = (
        "Tries every store (claims that are rolled back, leases that are released), looks at its database and its "
        "Redis, and runs the system checks, those for deployments included. Exits with 1 if anything is in error."
    )
    # What they would stop this command for is among what it tells.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--strict", action="store_true", help="Exit with 1 for warnings, too.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the findings; exit with 1 if they are bad."""
        findings = list(_diagnose())
        counts = Counter(finding.level for finding in findings)
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(findings, counts)))
        else:
            self._print(findings)
        summary = f"{counts['error']} errors, {counts['warning']} warnings."
        if counts["error"] or (options["strict"] and counts["warning"]):
            raise CommandError(summary, returncode=1)
        if not options["json"]:
            self.stdout.write(summary)

    def _print(self, findings: list[Finding]) -> None:
        styles = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "error": self.style.ERROR}
        for subject, group in groupby(findings, key=lambda finding: finding.subject):
            self.stdout.write(subject)
            for finding in group:
                self.stdout.write(f"  {styles[finding.level](f'{finding.level:<7}')}  {finding.text}")
                if finding.advice:
                    self.stdout.write(f"           -> {finding.advice}")


def _as_json(findings: list[Finding], counts: Counter[Level]) -> dict[str, Any]:
    levels: tuple[Level, ...] = ("error", "warning", "ok")
    return {
        "level": next((level for level in levels if counts[level]), "ok"),
        "errors": counts["error"],
        "warnings": counts["warning"],
        "findings": [finding.as_json() for finding in findings],
    }


def _diagnose() -> Iterator[Finding]:
    for alias in settings.STORES:
        yield from examine_store(alias)
    stores = list(_stores())
    for database in dict.fromkeys(store.alias for store in stores if store.alias):
        yield from examine_database(database)
    for cache, decides in _caches(stores).items():
        yield from examine_server(cache, decides=decides)
    advice = "See the traceback of manage.py check."
    yield from guarded("checks", "The system checks cannot be run", _check(), advice=advice)


def _stores() -> Iterator[Store]:
    """Yield the stores that can be made: the others are in error already."""
    for alias in settings.STORES:
        with suppress(ImproperlyConfigured, TypeError):
            yield get_store(alias)


def _caches(stores: list[Store]) -> dict[str, bool]:
    """Return the cache aliases, and whether a store has nothing but this one."""
    decides: dict[str, bool] = {}
    for store in stores:
        if redis := redis_of(store):
            decides[redis.alias] = decides.get(redis.alias, False) or store.alias is None
    return decides


def _check() -> Iterator[Finding]:
    told: list[checks.CheckMessage] = []
    for message in checks.run_checks(tags=["idempotency"], include_deployment_checks=True):
        # Stores that share a cache share what is wrong with it.
        if message in told or message.id in _SAID_OTHERWISE or message.is_silenced():
            continue
        told.append(message)
        is_warning = message.is_serious(checks.WARNING)
        level: Level = "error" if message.is_serious() else "warning" if is_warning else "ok"
        yield Finding(
            subject="checks",
            level=level,
            text=f"{message.id}: {message.msg}",
            advice=message.hint or "",
            facts={"id": message.id},
        )
    if not told:
        yield Finding(subject="checks", text="Nothing is wrong with the settings, as far as they can tell.")
