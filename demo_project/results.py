"""What a scenario measured, and the verdict that follows from it: no database, no network, facts alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request that was sent and what came back; ``status`` is None where the reply was lost."""

    key: str
    status: int | None = None
    is_replay: bool = False
    body: bytes = b""
    retry_after: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether it says that the operation is done."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_executed(self) -> bool:
        """Whether it is the answer of the run itself."""
        return self.is_success and not self.is_replay

    @property
    def is_replayed(self) -> bool:
        """Whether it repeats the answer of an earlier run."""
        return self.is_success and self.is_replay

    @property
    def is_refused(self) -> bool:
        """Whether the key was in use (409) or belongs to another request (422)."""
        return self.status in (409, 422)

    @property
    def may_be_retried(self) -> bool:
        """Whether a client would send the request again."""
        return self.status is None or self.status >= 500 or (self.status == 409 and self.retry_after is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A fact of one scenario that must be as expected."""

    name: str
    expected: object
    measured: object


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that was sent and answered, and the ids of the rows that are in the database afterwards."""

    scenario: str
    exchanges: tuple[Exchange, ...]
    rows: tuple[str, ...]
    expected_rows: int
    checks: tuple[Check, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many requests were sent, and how they ended: the other numbers add up to the first."""
        executed = sum(exchange.is_executed for exchange in self.exchanges)
        replayed = sum(exchange.is_replayed for exchange in self.exchanges)
        refused = sum(exchange.is_refused for exchange in self.exchanges)
        sent = len(self.exchanges)
        return {
            "sent": sent,
            "executed": executed,
            "replayed": replayed,
            "refused": refused,
            "failed": sent - executed - replayed - refused,
        }

    @cached_property
    def failures(self) -> tuple[str, ...]:
        """What does not hold, in words; nothing if all does."""
        return (*self._wrong_rows(), *self._wrong_answers(), *self._wrong_checks())

    @property
    def holds(self) -> bool:
        """The verdict."""
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "scenario": self.scenario,
            **self.counts,
            "rows": len(self.rows),
            "expected_rows": self.expected_rows,
            "verdict": "pass" if self.holds else "FAIL",
            "failures": list(self.failures),
        }

    def _wrong_rows(self) -> Iterator[str]:
        if len(self.rows) != self.expected_rows:
            yield f"rows written: {len(self.rows)}, not {self.expected_rows}"
        bodies = [json.loads(exchange.body) for exchange in self.exchanges if exchange.is_success]
        # A delivery of many lines is told how many there are, not their ids.
        acknowledged = {body["id"] for body in bodies if "booked" not in body}
        if missing := acknowledged - set(self.rows):
            yield f"rows that were acknowledged, but are not in the database: {len(missing)}"

    def _wrong_answers(self) -> Iterator[str]:
        by_key: dict[str, list[Exchange]] = {exchange.key: [] for exchange in self.exchanges}
        for exchange in self.exchanges:
            if exchange.is_success:
                by_key[exchange.key].append(exchange)
        if unanswered := sum(not answers for answers in by_key.values()):
            yield f"keys that never got their answer: {unanswered}"
        if different := sum(len({answer.body for answer in answers}) > 1 for answers in by_key.values()):
            yield f"keys that got different answers: {different}"
        if repeated := sum(sum(answer.is_executed for answer in answers) > 1 for answers in by_key.values()):
            yield f"keys that were executed more than once: {repeated}"

    def _wrong_checks(self) -> Iterator[str]:
        for check in self.checks:
            if check.measured != check.expected:
                yield f"{check.name}: {check.measured}, not {check.expected}"
