"""Reading objects back, to see whether they are still what their names promise."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from django_idempotency.objects.collection import Progress
from django_idempotency.objects.references import columns
from django_idempotency.objects.storage import ContentAddressedStorage
from django_idempotency.signals import decision_made


@dataclass(kw_only=True)
class Verified:
    """How many objects were read, how many bytes they are, and the names of those that are corrupt or missing."""

    seen: int = 0
    size: int = 0
    corrupt: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong with what was read."""
        return not (self.corrupt or self.missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Reads a ``share`` of the objects, from 0 to 1, and moves those that are corrupt into quarantine.

    When it reads all of them, it also looks for rows of this storage's fields whose content is missing.
    """

    storage: ContentAddressedStorage
    actor: str
    share: float = 1.0
    dry_run: bool = False

    def run(self, progress: Progress = lambda objects, size: None) -> Verified:
        """Verify."""
        done = Verified()
        for entry in self.storage.writer.entries():
            if self.share < 1 and random.random() >= self.share:  # noqa: S311 - a sample, not a secret
                continue
            done.seen += 1
            done.size += entry.size
            if not self._is_sound(entry.name):
                done.corrupt.append(entry.name)
            progress(done.seen, done.size)
        if self.share >= 1:
            done.missing = [name for name in self._references() if not self.storage.exists(name)]
        return done

    def _is_sound(self, name: str) -> bool:
        """Tell whether an object is sound, or gone; what is not is read twice, then set aside unless it has changed."""
        try:
            if self.storage.verify(name):
                return True
            version = self.storage.writer.version(name) if self._condemns else ""
            if self.storage.verify(name):
                return True
        except FileNotFoundError:
            return True
        if self._condemns and self.storage.writer.condemn(name, version):
            self._tell(name)
        return False

    @property
    def _condemns(self) -> bool:
        return self.storage.writer.supports_collection and not self.dry_run

    def _references(self) -> Iterator[str]:
        for column in columns():
            if column.field.storage is self.storage:
                yield from column.every()

    def _tell(self, name: str) -> None:
        decision_made.send(
            type(self.storage),
            using=None,
            layer="objects",
            operation=self.storage.alias,
            action="quarantined",
            actor=self.actor,
            reason=f"{self.storage.naming.digest(name)} is corrupt",
        )
