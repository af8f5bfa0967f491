"""Removing content that nothing refers to, without ever removing what somebody is about to refer to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from django.utils import timezone

from django_idempotency.objects.exceptions import CollectionRefused
from django_idempotency.objects.references import has_sources, referenced
from django_idempotency.objects.storage import ContentAddressedStorage
from django_idempotency.objects.writers import COLLECTED, Entry
from django_idempotency.signals import decision_made

BATCH = 500
Progress = Callable[[int, int], None]


@dataclass(kw_only=True)
class Collected:
    """What a collection has seen and done: objects by number, ``size`` in bytes of what was set aside or purged."""

    seen: int = 0
    young: int = 0
    referenced: int = 0
    set_aside: int = 0
    restored: int = 0
    purged: int = 0
    leftovers: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Sets aside what is older than ``grace`` and not referred to; purges it when it has lain there for ``second``.

    Each transaction that refers to content must commit within ``grace`` of putting it. Then, in the order of what is
    done: the age is looked at again in the very step that sets an object aside, references are looked at again after
    it, and once more before it is purged. ``actor`` is who is told to have done so.
    """

    storage: ContentAddressedStorage
    grace: timedelta
    second: timedelta
    actor: str
    dry_run: bool = False

    def run(self, progress: Progress = lambda objects, size: None) -> Collected:
        """Collect. Raises CollectionRefused, CollectorRunning."""
        if not has_sources():
            raise CollectionRefused("No model has a ContentAddressedFileField: everything would be collected.")
        done = Collected()
        with self.storage.writer.exclusive():
            now = timezone.now()
            self._purge(now - self.second, done)
            for batch in _batches(self.storage.writer.entries()):
                self._sweep(batch, now - self.grace, done)
                progress(done.seen, done.size)
            done.leftovers = self.storage.writer.leftovers(now - self.grace, dry_run=self.dry_run)
        self._tell(done)
        return done

    def _sweep(self, batch: list[Entry], before: datetime, done: Collected) -> None:
        old = {entry.name: entry for entry in batch if entry.modified < before}
        kept = referenced(old)
        done.seen += len(batch)
        done.young += len(batch) - len(old)
        done.referenced += len(kept)
        moved = [name for name in old.keys() - kept if self._set_aside(name, before)]
        # A reference may have moved from one row to another between two queries, and touches nothing.
        wanted = set() if self.dry_run else referenced(moved)
        for name in wanted:
            self.storage.writer.restore(name)
        done.restored += len(wanted)
        done.set_aside += len(moved) - len(wanted)
        done.size += sum(old[name].size for name in moved if name not in wanted)

    def _set_aside(self, name: str, before: datetime) -> bool:
        writer = self.storage.writer
        if self.dry_run:
            modified = writer.modified(name)
            return modified is not None and modified < before
        return writer.set_aside(name, before)

    def _purge(self, before: datetime, done: Collected) -> None:
        for batch in _batches(self.storage.writer.entries(COLLECTED)):
            old = {entry.name: entry for entry in batch if entry.modified < before}
            wanted = referenced({entry.name for entry in batch})
            for name in {entry.name for entry in batch} & wanted:
                done.restored += self._restore(name)
            for name in old.keys() - wanted:
                done.purged += 1
                done.size += old[name].size
                if not self.dry_run:
                    self.storage.writer.purge(name)

    def _restore(self, name: str) -> bool:
        writer = self.storage.writer
        is_missing = writer.modified(name) is None
        if not self.dry_run:
            writer.restore(name)
            writer.purge(name)
        return is_missing

    def _tell(self, done: Collected) -> None:
        if self.dry_run or not (done.set_aside or done.purged or done.restored):
            return
        decision_made.send(
            type(self.storage),
            using=None,
            layer="objects",
            operation=self.storage.alias,
            action="collected",
            actor=self.actor,
            reason=f"{done.set_aside} set aside, {done.purged} purged, {done.restored} restored",
        )


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    remaining = iter(entries)
    while batch := list(islice(remaining, BATCH)):
        yield batch
