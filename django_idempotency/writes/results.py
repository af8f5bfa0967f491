"""What came of rows that were written by their key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from django.db import models

M = TypeVar("M", bound=models.Model)
Outcome = Literal["inserted", "updated", "unchanged", "stale"]
OUTCOMES: tuple[Outcome, ...] = ("inserted", "updated", "unchanged", "stale")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsertResult(Generic[M]):
    """The objects of one call by what came of them, each in the order of their keys.

    Each object is in exactly one list and has the primary key (and the revision, where there is one) of its row.
    """

    inserted: list[M] = field(default_factory=list)
    updated: list[M] = field(default_factory=list)
    unchanged: list[M] = field(default_factory=list)
    stale: list[M] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How many objects there are by outcome; the sum is the number of distinct keys."""
        return {outcome: len(self.of(outcome)) for outcome in OUTCOMES}

    def of(self, outcome: Outcome) -> list[M]:
        """Return the objects of an outcome."""
        found: list[M] = getattr(self, outcome)
        return found
