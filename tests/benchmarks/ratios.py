"""Figures of several runs: ratios of neighbouring runs, medians and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median of several values and the range they lie in."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise values, of which there must be at least one."""
        return cls(median=median(values), lowest=min(values), highest=max(values))

    def __str__(self) -> str:
        return f"{_short(self.median)} [{_short(self.lowest)}–{_short(self.highest)}]"


def _short(value: float) -> str:
    """Return three decimals of a ratio, so that a missed goal does not look met, and one of a time in milliseconds."""
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def bracketed(target: float, *references: float) -> float:
    """Return a value in relation to the mean of the reference before and after it, so that a drift cancels out."""
    return target / fmean(references)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A bound that the median of a figure must reach, or must not exceed."""

    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        """Tell whether a value is within the bounds."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        return " ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A named figure over all rounds, and the goal it has, if any."""

    name: str
    spread: Spread
    goal: Goal | None = None

    @property
    def is_missed(self) -> bool:
        """Tell whether there is a goal that the median does not reach."""
        return self.goal is not None and not self.goal.is_met(self.spread.median)
