"""Builds, promotes, rolls back and drops the versions of projections."""

from __future__ import annotations

import getpass
import json
import os
import time
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_idempotency.reprocessing import Decision, Patience, Rollout, VersionedProjection
from django_idempotency.reprocessing.errors import NoSuchGeneration, ProjectionError, SwapTimedOut
from django_idempotency.reprocessing.projections import registered

_ACTIONS = ("build", "catchup", "verify", "promote", "rollback", "drop", "status")
_MISSING, _REFUSED, _TIMED_OUT = 3, 4, 5


class Command(BaseCommand):
    """Each action is one verb of a Rollout."""

    help = (
        "Builds a version of a projection beside the live one (build, catchup, verify), makes it live (promote), goes "
        "back (rollback) and frees space (drop). Exits with 3 if there is no such projection or version, 4 if it is "
        "refused or not verified, 5 if others kept the lock."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("action", choices=_ACTIONS)
        parser.add_argument("name", nargs="?", default="", help="The projection; status shows all without one.")
        parser.add_argument("--generation", type=int, help="Another version than the one that the code names.")
        parser.add_argument("--reason", default="", help="Why. Required for rollback, kept in the audit.")
        parser.add_argument("--actor", default="", help="Who decides so (default: user:<name of the system's user>).")
        parser.add_argument("--database", help="Alias of the database (default: as the routers say).")
        parser.add_argument("--batch-size", type=int, help="Rows of the source a transaction.")
        parser.add_argument("--lock-timeout", type=float, default=0.3, help="Seconds to wait for the lock (0.3).")
        parser.add_argument("--hold", type=float, default=2.0, help="Seconds that the lock may be held (2).")
        parser.add_argument("--attempts", type=int, default=10, help="How often the swap is tried (10).")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *args: Any, action: str, name: str, **options: Any) -> None:
        """Do what was asked for."""
        if min(options["lock_timeout"], options["hold"], options["attempts"], options["batch_size"] or 1) <= 0:
            raise CommandError("--lock-timeout, --hold, --attempts and --batch-size must be positive.")
        if action == "status":
            self._status([_find(name)] if name else list(registered()), options)
        else:
            self._act(action, name, options)

    def _act(self, action: str, name: str, options: dict[str, Any]) -> None:
        rollout = Rollout(_projection(_find(name), options))
        try:
            facts = getattr(self, f"_{action}")(rollout, **options)
        except SwapTimedOut as error:
            raise CommandError(str(error), returncode=_TIMED_OUT) from error
        except NoSuchGeneration as error:
            raise CommandError(str(error), returncode=_MISSING) from error
        except ProjectionError as error:
            raise CommandError(str(error), returncode=_REFUSED) from error
        self._report(rollout, action, facts, options)

    def _build(self, rollout: Rollout, *, dry_run: bool, **options: Any) -> dict[str, Any]:
        return {"rows": 0 if dry_run else rollout.build(self._progress(options))}

    def _catchup(self, rollout: Rollout, *, dry_run: bool, **options: Any) -> dict[str, Any]:
        return {"rows": 0 if dry_run else rollout.catch_up(self._progress(options))}

    def _verify(self, rollout: Rollout, **options: Any) -> dict[str, Any]:
        rollout.verify()
        return {}

    def _promote(self, rollout: Rollout, *, dry_run: bool, **options: Any) -> dict[str, Any]:
        if dry_run:
            refusals, repairs = rollout.preview()
            return {"refusals": refusals, "repairs": repairs}
        rollout.promote(_decision(options), _patience(options))
        return {}

    def _rollback(self, rollout: Rollout, *, dry_run: bool, **options: Any) -> dict[str, Any]:
        if not options["reason"] and not dry_run:
            raise CommandError("A rollback needs a --reason.")
        to = options["generation"]
        version = rollout.earlier(to) if dry_run else rollout.roll_back(_decision(options), _patience(options), to=to)
        return {"version": version}

    def _drop(self, rollout: Rollout, *, dry_run: bool, **options: Any) -> dict[str, Any]:
        version = options["generation"]
        if dry_run:
            return {"versions": [version] if version is not None else rollout.superfluous()}
        return {"versions": rollout.drop(_decision(options), version=version)}

    def _progress(self, options: dict[str, Any]) -> Any:
        """Return what prints the rows read so far, no more than once a second."""
        started = shown = time.monotonic()

        def show(rows: int) -> None:
            nonlocal shown
            if options["verbosity"] and (now := time.monotonic()) - shown >= 1:
                shown = now
                self.stderr.write(f"{rows} rows read, {rows / (now - started):.0f} a second")

        return show

    def _report(self, rollout: Rollout, action: str, facts: dict[str, Any], options: dict[str, Any]) -> None:
        projection = rollout.projection
        facts = {"action": action, "projection": projection.name, "version": projection.version, **facts}
        if options["json"]:
            self.stdout.write(json.dumps({**facts, "dry_run": options["dry_run"]}))
            return
        would = "Would be done: " if options["dry_run"] else ""
        more = "".join(f"\n{key}: {value}" for key, value in list(facts.items())[3:] if value != [])
        self.stdout.write(f"{would}{action} {projection.name} v{facts['version']}{more}")

    def _status(self, projections: list[type[VersionedProjection]], options: dict[str, Any]) -> None:
        rows = [row for each in projections for row in Rollout(each(using=options["database"])).status()]
        if options["json"]:
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            self.stdout.write(
                f"{row['projection']} v{row['version']}  {row['state']:<8}  {row['rows_read']} rows read  "
                f"{row['table']}  {row['position'] or ''}".rstrip()
            )


def _find(name: str) -> type[VersionedProjection]:
    for projection in registered():
        if projection.name == name:
            return projection
    known = ", ".join(sorted(projection.name for projection in registered())) or "none"
    raise CommandError(
        f"There is no projection {name!r}; there are: {known}. They are found in the projections.py of each app.",
        returncode=_MISSING,
    )


def _projection(found: type[VersionedProjection], options: dict[str, Any]) -> VersionedProjection:
    projection = found(version=options["generation"], using=options["database"])
    if options["batch_size"]:
        projection.batch_size = options["batch_size"]
    return projection


def _decision(options: dict[str, Any]) -> Decision:
    return Decision(actor=options["actor"] or _user(), reason=options["reason"])


def _patience(options: dict[str, Any]) -> Patience:
    return Patience(
        lock=timedelta(seconds=options["lock_timeout"]),
        hold=timedelta(seconds=options["hold"]),
        attempts=options["attempts"],
    )


def _user() -> str:
    try:
        return f"user:{getpass.getuser()}"
    except (KeyError, OSError):  # a container may run under a user that has no name
        return f"user:{os.getuid()}"
