"""Shows jobs and their runs, lets one run anew, and closes the runs of workers that have died."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_idempotency.exceptions import IdempotencyError, TransactionConflict
from django_idempotency.jobs.decisions import check_reset, reap, reset
from django_idempotency.jobs.models import JobRun
from django_idempotency.jobs.sightings import JobSighting, facts, find, runs
from django_idempotency.management.stores import database_store, system_user
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.resolution import Decision, LeaseIsLive, NothingToResolve, RecordChanged
from django_idempotency.stores.sightings import NoSuchRecord, SeveralRecords

_ACTIONS = ("list", "show", "reset", "reap")
_RETURN_CODES: dict[type[IdempotencyError], int] = {
    NoSuchRecord: 3,
    SeveralRecords: 3,
    NothingToResolve: 4,
    LeaseIsLive: 4,
    RecordChanged: 5,
    TransactionConflict: 5,
}


class Command(BaseCommand):
    """Each action is one verb. Prints business keys where they are kept, but no values."""

    help = (
        "Lists the runs of jobs, shows one key, lets its next call run anew (reset), closes the runs of workers that "
        "have died (reap). Exits with 3 if there is no such job or several, 4 if there is nothing to reset or its "
        "lease is held, 5 if it has changed meanwhile."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("action", choices=_ACTIONS)
        parser.add_argument("key", nargs="?", default="", help="The business key.")
        parser.add_argument("--job", default="", help="The name of the job.")
        parser.add_argument("--digest", default="", help="In place of the key: the first 8 or more digits of it.")
        parser.add_argument(
            "--status", action="append", choices=JobRun.Status.values, help="With list: of these alone; repeatable."
        )
        parser.add_argument("--limit", type=int, default=100, help="With list: rows at most (default: 100).")
        parser.add_argument("--reason", default="", help="Why. Required for reset, kept in the audit.")
        parser.add_argument("--actor", default="", help="Who decides so (default: user:<name of the system's user>).")
        parser.add_argument("--force", action="store_true", help="Reset also where a lease is still held.")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
        parser.add_argument("--store", default="default", help="Alias in IDEMPOTENCY_STORES (default: default).")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *args: Any, action: str, store: str, **options: Any) -> None:
        """Do what was asked for."""
        backend = database_store(store)
        if action in ("show", "reset") and bool(options["key"]) == bool(options["digest"]):
            raise CommandError("Name the job by its key or by --digest.")
        try:
            getattr(self, f"_{action}")(backend, **options)
        except IdempotencyError as error:
            raise CommandError(str(error), returncode=_RETURN_CODES.get(type(error), 1)) from error

    def _list(self, store: DatabaseStore, *, limit: int, **options: Any) -> None:
        if limit < 1:
            raise CommandError("--limit must be positive.")
        found = runs(store.alias, job=options["job"], key=options["key"], statuses=options["status"] or ())
        self._print_runs(list(found[:limit]), options)

    def _show(self, store: DatabaseStore, **options: Any) -> None:
        seen = find(store.alias, key=options["key"], job=options["job"], digest=options["digest"])
        if options["json"]:
            self.stdout.write(json.dumps(_facts(seen)))
            return
        state = _facts(seen)["state"]
        self.stdout.write(f"{seen.digest[:8].hex()}  {seen.job}  {seen.key}: {state}")
        self.stdout.write(", ".join(f"{count} {name}" for name, count in seen.answers.items()) or "no calls")
        self._print_runs(seen.runs, options)

    def _reset(self, store: DatabaseStore, *, reason: str, dry_run: bool, force: bool, **options: Any) -> None:
        seen = find(store.alias, key=options["key"], job=options["job"], digest=options["digest"])
        decision = Decision(actor=options["actor"] or system_user(), reason=reason, force=force)
        status = check_reset(seen, decision).status
        if not dry_run:
            if not reason:
                raise CommandError("A reset needs a --reason.")
            reset(store, seen, decision)
        if options["json"]:
            self.stdout.write(json.dumps({"event": "reset", "dry_run": dry_run, "was": status, **_facts(seen)}))
        else:
            would = "Would be done: " if dry_run else ""
            self.stdout.write(f"{would}{seen.digest[:8].hex()} {seen.job} (was {status}) runs anew with the next call.")

    def _reap(self, store: DatabaseStore, *, job: str, dry_run: bool, **options: Any) -> None:
        self._print_runs(reap(store, job=job, is_dry=dry_run), options)

    def _print_runs(self, found: Any, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps([facts(run) for run in found]))
            return
        for run in found:
            lasted = (
                timedelta(seconds=round((run.completed_at - run.started_at).total_seconds(), 3))
                if (run.completed_at)
                else "-"
            )
            forced = " forced" if run.is_forced else ""
            self.stdout.write(
                f"{run.run_id}  {run.status}{forced}  {run.started_at:%Y-%m-%d %H:%M:%S}  {lasted}  "
                f"attempt {run.attempt}  {run.job}  {run.key}  {run.worker}  {run.origin}  {run.error}".rstrip()
            )
        self.stdout.write(f"{len(found)} runs.")


def _facts(seen: JobSighting) -> dict[str, Any]:
    record = seen.record
    state = "free" if record is None else "stuck" if record.has_lapsed else record.status
    return {
        "job": seen.job,
        "key": seen.key,
        "digest": seen.digest.hex(),
        "state": state,
        "attempt": record.attempt if record else None,
        "answers": seen.answers,
        "runs": [facts(run) for run in seen.runs],
    }
