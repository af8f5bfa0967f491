"""How a version is filled: batch by batch, each in one transaction with the progress that it makes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from django.db import models, transaction

from django_idempotency.reprocessing import tables
from django_idempotency.reprocessing.errors import NoSuchGeneration, ProjectionError, WrongState
from django_idempotency.reprocessing.models import Generation, WatermarkRow
from django_idempotency.reprocessing.projections import VersionedProjection
from django_idempotency.reprocessing.sources import Batch, Source
from django_idempotency.reprocessing.watermarks import Held, Watermark

#: Told how many rows of the source have been read so far.
Progress = Callable[[int], None]


class OutOfTime(ProjectionError):
    """More is left than the time allows for."""


class Feeder:
    """Fills one version of a projection from where it has got to."""

    def __init__(self, projection: VersionedProjection) -> None:
        self._projection, self._alias = projection, projection.using

    def feed(self, *, progress: Progress | None = None) -> int:
        """Add what is new; return how many rows of the source were read, 0 where there is no source."""
        source = self._projection.source
        if source is None:
            return self._rebuild()
        total = 0
        for size in self._batches(source):
            total += size
            if progress:
                progress(total)
        return total

    def feed_at_once(self, generation: Generation, source: Source, *, is_last: bool, deadline: float) -> None:
        """Add what is new to a version whose row is locked, in the transaction that runs.

        ``is_last``: the application writes to the version itself from now on. Raises OutOfTime when the deadline,
        on the monotonic clock, has passed after a batch.
        """
        size = self._projection.batch_size
        with watermark(self._projection).hold() as held:
            for batch in source.batches(held.position, size=size, is_first=True, is_last=is_last):
                self._add(generation, held, batch)
                if time.monotonic() > deadline:
                    raise OutOfTime

    def _batches(self, source: Source) -> Iterator[int]:
        mark, size = watermark(self._projection), self._projection.batch_size
        batches: Iterator[Batch] | None = None
        expected, is_first = None, True
        while True:
            with transaction.atomic(using=self._alias):
                generation = self.lock()
                with mark.hold() as held:
                    if batches is None or held.position != expected:
                        # At the start, or after another process has taken over some of the batches.
                        batches = source.batches(held.position, size=size, is_first=is_first, is_last=False)
                    is_first = False
                    batch = next(batches, None)
                    if batch is None:
                        return
                    self._add(generation, held, batch)
                    expected = held.position
            yield len(batch.rows)

    def _add(self, generation: Generation, held: Held, batch: Batch) -> None:
        self._projection.apply(self.into(generation), batch.rows)
        held.move(batch.position)
        counted = generations(self._projection).filter(pk=generation.pk)
        counted.update(rows_read=models.F("rows_read") + len(batch.rows))

    def _rebuild(self) -> int:
        with transaction.atomic(using=self._alias):
            into = self.into(self.lock())
            models.QuerySet(into, using=self._alias)._raw_delete(self._alias)
            self._projection.build(into)
        return 0

    def lock(self) -> Generation:
        """Return the row of the version, locked; its table cannot be renamed or dropped meanwhile."""
        generation = generations(self._projection).select_for_update().filter(version=self._projection.version).first()
        if generation is None:
            raise NoSuchGeneration(f"{self._projection.name} has no version {self._projection.version}; build it.")
        if generation.state == Generation.State.DROPPED:
            raise WrongState(f"{generation} is dropped; build it anew.")
        return generation

    def into(self, generation: Generation) -> Any:
        """Return the model of the table that the version is in now."""
        return tables.bound_to(self._projection.model, generation.table, generation.version)


def generations(projection: VersionedProjection) -> models.QuerySet[Generation]:
    """Return the versions of a projection."""
    return Generation.objects.using(projection.using).filter(projection=projection.name)


def watermark(projection: VersionedProjection) -> Watermark:
    """Return how far the version has got. Raises TypeError where there is no source."""
    if projection.source is None:
        raise TypeError(f"{projection.name} has no source to be worked through.")
    source = projection.source.positions
    declared: Any = source.types if source.is_tuple else source.types[0]
    return Watermark(
        f"projection {projection.name}", type=declared, partition=f"v{projection.version}", using=projection.using
    )


def forget_progress(projection: VersionedProjection, version: int) -> None:
    """Have a later build of the version begin at the start."""
    rows = WatermarkRow.objects.using(projection.using)
    rows.filter(name=f"projection {projection.name}", partition=f"v{version}").delete()
