"""What operators do with a projection: build a version beside the live one, and let it take that one's place."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, connections, transaction

from django_idempotency.reprocessing import tables
from django_idempotency.reprocessing.clocks import now
from django_idempotency.reprocessing.errors import (
    NoSuchGeneration,
    ProjectionError,
    SwapRefused,
    VerificationFailed,
    WrongState,
)
from django_idempotency.reprocessing.feeding import Feeder, Progress, forget_progress, generations, watermark
from django_idempotency.reprocessing.locks import bound
from django_idempotency.reprocessing.models import Generation
from django_idempotency.reprocessing.projections import VersionedProjection
from django_idempotency.reprocessing.promotions import Decision, Patience, Promoter, tell_decision
from django_idempotency.signals import batch_answered

_BUILDING, _BUILT, _LIVE, _RETIRED, _DROPPED = Generation.State


class Rollout:
    """The versions of one projection; what is built and promoted is the version of the projection given."""

    def __init__(self, projection: VersionedProjection) -> None:
        self.projection = projection
        self._alias = projection.using
        self._feeder, self._promoter = Feeder(projection), Promoter(projection)

    @property
    def live(self) -> Generation | None:
        """The version that is read, None before the first promotion."""
        return generations(self.projection).filter(state=_LIVE).first()

    def build(self, progress: Progress | None = None) -> int:
        """Make the version's table and fill it, or go on where a build broke off; return the rows read now."""
        generation = self._begin()
        if generation.state in (_LIVE, _RETIRED):
            raise WrongState(f"{generation} is {generation.state}; change the version to build another one.")
        rows = self._feed(progress)
        generations(self.projection).filter(pk=generation.pk, state=_BUILDING).update(
            state=_BUILT, built_at=now(self._alias)
        )
        return rows

    def catch_up(self, progress: Progress | None = None) -> int:
        """Add what is new in the source since; return the rows read. Raises WrongState."""
        self._check_catch_up(self._get())
        return self._feed(progress)

    def verify(self) -> None:
        """Let the projection compare the version with the live one. Raises WrongState or VerificationFailed."""
        generation, live = self._get(), self.live
        if generation.state == _BUILDING:
            raise WrongState(f"{generation} is not built to its end; run the build again.")
        old = self._bound(live) if live and live.pk != generation.pk else None
        try:
            self.projection.verify(old, self._bound(generation))
        except ProjectionError:
            raise
        except Exception as error:
            raise VerificationFailed(f"{generation}: {type(error).__name__}: {error}") from error
        generations(self.projection).filter(pk=generation.pk).update(verified_at=now(self._alias))

    def preview(self) -> tuple[list[str], list[str]]:
        """Return what refuses the promotion as things are, and what it would carry over beside the rows."""
        swap = self._promoter.preview(self._get())
        refusals = swap.refusals()
        return refusals, [] if refusals else swap.repairs()

    def promote(self, decision: Decision | None = None, patience: Patience | None = None) -> None:
        """Catch up, verify, and let the version take the place of the live one. A live one is left as it is.

        Raises WrongState, VerificationFailed, SwapRefused or SwapTimedOut; then nothing is swapped.
        """
        target = self._get()
        if target.state == _LIVE:
            return
        self._check_promotion(target)
        self._feed()
        self.verify()
        if refusals := self._promoter.preview(target).refusals():
            raise SwapRefused(refusals)
        self._promoter.change(target, "promoted", decision or Decision(), patience or Patience(), catches_up=True)

    def roll_back(
        self, decision: Decision | None = None, patience: Patience | None = None, *, to: int | None = None
    ) -> int:
        """Let an earlier version take the place of the live one, as it is; return which. Raises as ``promote``."""
        version = self.earlier(to)
        decision, patience = decision or Decision(), patience or Patience()
        self._promoter.change(self._get(version), "rolled_back", decision, patience, catches_up=False)
        return version

    def earlier(self, to: int | None = None) -> int:
        """Return what a rollback goes back to. Raises WrongState or NoSuchGeneration."""
        live = self.live
        if live is None:
            raise WrongState(f"Nothing of {self.projection.name} is live.")
        retired = generations(self.projection).filter(state=_RETIRED).order_by("-version")
        target = (retired.filter(version=to) if to is not None else retired.filter(version__lt=live.version)).first()
        if target is None:
            raise NoSuchGeneration(f"{self.projection.name} has no retired version to roll back to.")
        return target.version

    def drop(self, decision: Decision | None = None, *, version: int | None = None) -> list[int]:
        """Drop one version, or the retired ones beyond ``keep_old`` newest; return which. Raises WrongState."""
        dropped = self.superfluous() if version is None else [version]
        for each in dropped:
            self._drop(each, decision or Decision())
        return dropped

    def superfluous(self) -> list[int]:
        """Return the retired versions beyond ``keep_old`` newest."""
        retired = generations(self.projection).filter(state=_RETIRED).order_by("-version")
        return list(retired.values_list("version", flat=True)[self.projection.keep_old :])

    def status(self) -> list[dict[str, Any]]:
        """Return what is known of each version, oldest first, as plain values."""
        return [_facts(self.projection, generation) for generation in generations(self.projection).order_by("version")]

    def _begin(self) -> Generation:
        """Return the version's row, new or as it is, with a table behind it."""
        version, model = self.projection.version, self.projection.model
        new: dict[str, Any] = {
            "table": tables.versioned(model._meta.db_table, version),
            "state": _BUILDING,
            "created_at": now(self._alias),
        }
        known = generations(self.projection)
        if tables.kind(self._alias, new["table"]) and not known.filter(version=version).exists():
            raise WrongState(f"The table {new['table']} is not of this projection; rename or drop it.")
        generation, is_new = known.get_or_create(projection=self.projection.name, version=version, defaults=new)
        if not is_new and generation.state == _DROPPED:
            fresh = {**new, "rows_read": 0, "built_at": None, "verified_at": None, "promoted_at": None}
            generations(self.projection).filter(pk=generation.pk, state=_DROPPED).update(**fresh)
            generation.refresh_from_db()
        if generation.state == _BUILDING and not tables.kind(self._alias, generation.table):
            self._make_table(generation)
        return generation

    def _make_table(self, generation: Generation) -> None:
        try:
            tables.create(self._alias, self._bound(generation))
        except DatabaseError:
            if not tables.kind(self._alias, generation.table):  # unless another builder was quicker
                raise

    def _feed(self, progress: Progress | None = None) -> int:
        started = time.monotonic()
        rows = self._feeder.feed(progress=progress)
        if rows:
            with transaction.atomic(using=self._alias):
                batch_answered.send(
                    sender=type(self.projection),
                    using=self._alias,
                    layer="reprocessing",
                    operation=self.projection.name,
                    counts={"executed": rows},
                    duration=time.monotonic() - started,
                )
        return rows

    def _get(self, version: int | None = None) -> Generation:
        version = self.projection.version if version is None else version
        found = generations(self.projection).filter(version=version).exclude(state=_DROPPED).first()
        if found is None:
            raise NoSuchGeneration(f"{self.projection.name} has no version {version}; build it first.")
        return found

    def _bound(self, generation: Generation) -> Any:
        return self._feeder.into(generation)

    def _check_catch_up(self, generation: Generation) -> None:
        if generation.state == _BUILDING:
            raise WrongState(f"{generation} is not built to its end; run the build again.")
        if generation.state == _LIVE and self.projection.write_through:
            raise WrongState(f"{generation} is live, and the application keeps it up to date.")
        if generation.state == _RETIRED:
            self._check_repetition(generation)

    def _check_promotion(self, target: Generation) -> None:
        if target.state == _BUILDING:
            raise WrongState(f"{target} is not built to its end; run the build again.")
        if target.state == _RETIRED:
            self._check_repetition(target)

    def _check_repetition(self, retired: Generation) -> None:
        """Refuse what would count rows twice: those that the application wrote to the version while it was live."""
        source = self.projection.source
        if self.projection.write_through and source is not None and not source.is_repeating:
            raise WrongState(
                f"{retired} was live, and cannot tell what was written to it from what its source has; roll back to it "
                "as it is, or build another version."
            )

    def _drop(self, version: int, decision: Decision) -> None:
        with transaction.atomic(using=self._alias):
            bound(self._alias, lock=timedelta(seconds=5), statement=timedelta(minutes=5))
            locked = generations(self.projection).select_for_update().filter(version=version).exclude(state=_DROPPED)
            generation = locked.first() or self._get(version)
            if generation.state == _LIVE:
                raise WrongState(f"{generation} is live; promote or roll back to another version first.")
            tables.execute(self._alias, f"DROP TABLE IF EXISTS {self._quote(generation.table)}")
            generation.state = _DROPPED
            generation.save(using=self._alias)
            forget_progress(self.projection, version)
            tell_decision(self.projection, "dropped", version, decision)

    def _quote(self, name: str) -> str:
        return str(connections[self._alias].ops.quote_name(name))


def _facts(projection: VersionedProjection, generation: Generation) -> dict[str, Any]:
    times = {
        name: getattr(generation, f"{name}_at") for name in ("created", "built", "verified", "promoted", "retired")
    }
    return {
        "projection": generation.projection,
        "version": generation.version,
        "state": generation.state,
        "table": generation.table,
        "rows_read": generation.rows_read,
        "position": _position(projection, generation.version),
        **{name: at.isoformat() if isinstance(at, datetime) else None for name, at in times.items()},
    }


def _position(projection: VersionedProjection, version: int) -> Any:
    if projection.source is None:
        return None
    position = watermark(type(projection)(version=version, using=projection.using)).position
    return [str(part) for part in position] if isinstance(position, tuple) else position and str(position)
