"""Frees keys that are stuck, and settles unknown outcomes."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.http import HttpResponse

from django_idempotency.conf import settings
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.policies import Policy
from django_idempotency.core.protection import Owner
from django_idempotency.exceptions import IdempotencyError, TransactionConflict
from django_idempotency.http.responses import capture
from django_idempotency.management.stores import database_store, system_user
from django_idempotency.stores.resolution import Decision, LeaseIsLive, NothingToResolve, RecordChanged, Resolver
from django_idempotency.stores.sightings import NoSuchRecord, SeveralRecords, Sighting, find, waiting

_RETURN_CODES: dict[type[IdempotencyError], int] = {
    NoSuchRecord: 3,
    SeveralRecords: 3,
    NothingToResolve: 4,
    LeaseIsLive: 4,
    RecordChanged: 5,
    TransactionConflict: 5,
}
_DONE = "done"
_NOT_DONE = "not_done"
_STATUSES_WITHOUT_BODY = (204, 205, 304)


class Command(BaseCommand):
    """An operator decides what no program can. Asks nothing, and prints neither keys nor bodies."""

    help = (
        "Frees the key of an operation that is stuck, so that the next request runs it anew, or says what came of it "
        "(--done, --not-done). Exits with 3 if there is no such record or several, 4 if there is nothing to decide, "
        "5 if the record has changed meanwhile."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("digest", nargs="?", default="", help="The digest, or its first 8 or more hex digits.")
        parser.add_argument("--key", default="", help="The client's key, in place of the digest.")
        parser.add_argument("--scope", default="", help="With --key: the scope, as the admin shows it.")
        parser.add_argument("--operation", default="", help="With --key: the operation, as the admin shows it.")
        verb = parser.add_mutually_exclusive_group()
        verb.add_argument("--list", action="store_true", help="Show unknown outcomes and lapsed leases.")
        verb.add_argument(
            "--done", dest="verdict", action="store_const", const=_DONE, help="It was done: replay this response."
        )
        verb.add_argument(
            "--not-done",
            dest="verdict",
            action="store_const",
            const=_NOT_DONE,
            help="What broke off was not done: the next request goes on after the last finished step.",
        )
        parser.add_argument("--status", type=int, help="With --done: status of the response.")
        parser.add_argument("--body", help="With --done: body of the response.")
        parser.add_argument("--body-file", type=Path, help="With --done: a file with the body of the response.")
        parser.add_argument("--content-type", default="application/json", help="With --done (default: JSON).")
        parser.add_argument("--header", action="append", metavar="'NAME: VALUE'", help="With --done; repeatable.")
        parser.add_argument("--encrypt", action="store_true", help='With --done: for a view with body="encrypted".')
        parser.add_argument("--ttl", type=int, help="With --done: seconds of replay (default: IDEMPOTENCY_TTL).")
        parser.add_argument("--reason", default="", help="Why. Required for any change, kept in the audit.")
        parser.add_argument("--actor", default="", help="Who decides so (default: user:<name of the system's user>).")
        parser.add_argument("--force", action="store_true", help="Also where a lease is still held.")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
        parser.add_argument("--store", default="default", help="Alias in IDEMPOTENCY_STORES (default: default).")
        parser.add_argument("--limit", type=int, default=100, help="With --list: rows at most (default: 100).")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *args: Any, store: str, digest: str, key: str, **options: Any) -> None:
        """List what waits, or carry out one decision."""
        backend = database_store(store)
        if options["list"]:
            self._list(waiting(backend.alias, limit=options["limit"]), as_json=options["json"])
            return
        if bool(digest) == bool(key):
            raise CommandError("Name the record by its digest or by --key, or ask for --list.")
        try:
            seen = find(backend.alias, digest=digest, key=key, scope=options["scope"], operation=options["operation"])
            self._decide(Resolver(store=backend), seen, **options)
        except IdempotencyError as error:
            raise CommandError(str(error), returncode=_RETURN_CODES.get(type(error), 1)) from error

    def _list(self, seen: list[Sighting], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps([_facts(one) for one in seen]))
            return
        for one in seen:
            age = timedelta(seconds=int(one.age.total_seconds()))
            steps = ", ".join(f"{step.name} {_state(step.is_done)}" for step in one.steps) or "none"
            status = "lapsed" if one.has_lapsed else one.status
            self.stdout.write(
                f"{one.prefix}  {status}  {age}  attempt {one.attempt}  {one.operation}  {one.scope}  steps: {steps}"
            )
        self.stdout.write(f"{len(seen)} waiting.")

    def _decide(
        self, resolver: Resolver, seen: Sighting, *, verdict: str | None, dry_run: bool, force: bool, **options: Any
    ) -> None:
        decision = Decision(actor=options["actor"] or system_user(), reason=options["reason"], force=force)
        outcome = _outcome(**options) if verdict == _DONE else None
        decision.check(seen)
        if not decision.reason and not dry_run:
            raise CommandError("A change needs a --reason.")
        if seen.is_live:
            self.stderr.write("Warning: the lease is still held; what its owner has not committed yet is rolled back.")
        verb: Callable[[Sighting, Decision], None]
        if outcome:
            if options["encrypt"]:
                outcome = settings.vault.seal(outcome, Owner(digest=seen.digest, scope=seen.scope))
            ttl = settings.ttl if options["ttl"] is None else timedelta(seconds=options["ttl"])
            verb, event = partial(resolver.resolve_done, outcome=outcome, ttl=ttl), "resolved_done"
        elif verdict == _NOT_DONE:
            verb, event = resolver.resolve_not_done, "resolved_not_done"
        else:
            verb, event = resolver.release, "released"
        if not dry_run:
            verb(seen, decision)
        self._report(seen, event, dry_run, **options)

    def _report(self, seen: Sighting, event: str, dry_run: bool, **options: Any) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({"event": event, "dry_run": dry_run, **_facts(seen)}))
        else:
            would = "Would be done: " if dry_run else ""
            self.stdout.write(f"{would}{seen.prefix} {seen.operation} (was {seen.status}) {_meaning(seen, event)}.")


def _outcome(
    *,
    status: int | None,
    body: str | None,
    body_file: Path | None,
    content_type: str,
    header: list[str] | None,
    ttl: int | None,
    **options: Any,
) -> Outcome:
    """Return the response as a replay will send it. Raises CommandError where no replay could."""
    if status is None or status < 200 or not Policy(keep="raised").keeps(status, raised=True):
        raise CommandError("--done needs the --status of an outcome: 2xx, 3xx, or a 4xx that is about the operation.")
    if (body is None) == (body_file is None) and (body is not None or status not in _STATUSES_WITHOUT_BODY):
        raise CommandError("--done needs a --body or a --body-file, which may be empty.")
    if ttl is not None and ttl < 1:
        raise CommandError("--ttl must be at least one second.")
    try:
        content = body_file.read_bytes() if body_file else (body or "").encode()
        response = HttpResponse(content, status=status, content_type=content_type)
        headers = [_header(line) for line in header or ()]
        for name, value in headers:
            response[name] = value
        outcome = capture(response, Policy(headers=[name for name, _ in headers]))
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    if outcome.body is None:
        raise CommandError("The body is longer than IDEMPOTENCY_MAX_BODY.")
    return outcome


def _header(line: str) -> tuple[str, str]:
    name, separator, value = (part.strip() for part in line.partition(":"))
    if not (name and separator):
        raise ValueError("A --header has the form 'NAME: VALUE'.")
    return name, value


def _meaning(seen: Sighting, event: str) -> str:
    """Say what retries will meet."""
    if event == "resolved_done":
        return "is completed: retries get the response"
    if event == "resolved_not_done":
        kept = ", ".join(step.name for step in seen.steps if step.is_done)
        return f"is resumed by the next request, after the steps: {kept or 'none'}"
    lost = ", ".join(step.name for step in seen.steps)
    return "runs anew with the next request" + (f"; forgotten are the steps: {lost}" if lost else "")


def _facts(seen: Sighting) -> dict[str, Any]:
    return {
        "digest": seen.digest.hex(),
        "operation": seen.operation,
        "scope": seen.scope,
        "status": seen.status,
        "has_lapsed": seen.has_lapsed,
        "attempt": seen.attempt,
        "age": round(seen.age.total_seconds(), 3),
        "steps": [{"name": step.name, "state": _state(step.is_done)} for step in seen.steps],
    }


def _state(is_done: bool) -> str:
    return "done" if is_done else "begun"
