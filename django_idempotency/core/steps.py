"""Steps: outside calls whose results are kept, so that a retry goes on after the last one that ended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from django_idempotency.exceptions import StepChanged


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One outside call. ``is_keyed`` says that it carries a derived key, so that the provider tells a repetition.

    ``sealed_with`` is the id of the key that the result is encrypted with.
    """

    name: str
    version: str = ""
    is_keyed: bool = False
    is_done: bool = False
    result: Any = field(default=None, repr=False)
    sealed_with: str = ""

    def done(self, result: Any) -> Step:
        """Return the step as it ended, with the result as a retry will get it. Raises TypeError unless it is JSON."""
        return replace(self, is_done=True, result=json.loads(json.dumps(result)))


class StepSeal(Protocol):
    """Encrypts the results of steps."""

    def seal(self, step: Step) -> Step:
        """Return a step that has ended with its result encrypted."""

    def open(self, step: Step) -> Step:
        """Return it as it was. Raises OutcomeUnreadable."""


class Steps:
    """The steps of one operation, in the order in which they were begun."""

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self._steps = {step.name: step for step in steps}
        self._is_relied_on = False
        self._seal: StepSeal | None = None

    @classmethod
    def decode(cls, text: str | None) -> Steps:
        """Read what ``encode`` has written."""
        return cls(Step(**fields) for fields in json.loads(text or "[]"))

    def encode(self) -> str:
        """Return a JSON array."""
        return json.dumps([asdict(step) for step in self._steps.values()], separators=(",", ":"))

    def __bool__(self) -> bool:
        return bool(self._steps) or self._is_relied_on

    def protect(self, seal: StepSeal) -> None:
        """Keep results encrypted from now on, and read those that are."""
        self._seal = seal

    @property
    def is_sealed(self) -> bool:
        """Whether any result is encrypted."""
        return any(step.sealed_with for step in self._steps.values())

    def rely(self) -> None:
        """Note that something outside may know of this operation, so that a retry must find its record."""
        self._is_relied_on = True

    @property
    def is_ambiguous(self) -> bool:
        """Whether a call broke off that must not be repeated, since nobody could tell the repetition."""
        return any(not step.is_done and not step.is_keyed for step in self._steps.values())

    def find(self, name: str, *, version: str, is_keyed: bool) -> Step:
        """Return the step as an earlier attempt left it, or a new one. Raises StepChanged."""
        step = self._steps.get(name)
        if step is None:
            return Step(name=name, version=version, is_keyed=is_keyed)
        if step.version != version or step.is_keyed != is_keyed:
            raise StepChanged
        return self._seal.open(step) if self._seal and step.sealed_with else step

    def with_step(self, step: Step) -> Steps:
        """Return these steps and that one, in place of the one of its name."""
        if self._seal and step.is_done and not step.sealed_with:
            step = self._seal.seal(step)
        return Steps({**self._steps, step.name: step}.values())

    def without(self, step: Step) -> Steps:
        """Return these steps but that one."""
        return Steps(known for name, known in self._steps.items() if name != step.name)

    def become(self, steps: Steps) -> None:
        """Take over what has been written."""
        self._steps = steps._steps

    def forget_unfinished(self) -> None:
        """Drop the steps that are known not to have been done."""
        self._steps = {name: step for name, step in self._steps.items() if step.is_done}
