"""Findings: what is well or wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Level = Literal["ok", "warning", "error"]
_MOST_CLOCKS_MAY_DIFFER = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a diagnosis. ``facts`` are its numbers, for machines; none of it is secret."""

    subject: str
    text: str
    level: Level = "ok"
    advice: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can say."""
        return asdict(self)


def guarded(
    subject: str, what: str, findings: Iterable[Finding], *, advice: str, level: Level = "error"
) -> Iterator[Finding]:
    """Yield findings; what breaks while looking is one, too."""
    try:
        yield from findings
    except Exception as error:  # noqa: BLE001 - a diagnosis of what is broken must not break
        yield Finding(subject=subject, level=level, text=f"{what}: {named(error)}", advice=advice)


def named(error: BaseException) -> str:
    """Name an error and its causes by type and SQLSTATE alone: messages may hold addresses, passwords and values."""
    names = [type(error).__name__]
    while cause := error.__cause__:
        error = cause
        state = getattr(error, "sqlstate", None)
        names.append(f"{type(error).__name__} {state}" if state else type(error).__name__)
    return names[0] + (f" ({', '.join(names[1:])})" if names[1:] else "")


def clocks(subject: str, difference: float, margin: float) -> Finding:
    """Compare a server's clock with this machine's; the true difference, in seconds, is within a margin."""
    is_wrong = abs(difference) - margin > _MOST_CLOCKS_MAY_DIFFER
    milliseconds = round(difference * 1000, 1)
    return Finding(
        subject=subject,
        level="warning" if is_wrong else "ok",
        text=f"The server's clock is {abs(milliseconds):.0f} ms {'behind' if difference < 0 else 'ahead of'} "
        f"this machine's (within {margin * 1000:.1f} ms).",
        advice="Synchronise both (NTP): records expire by the server's clock, copies in Redis by this machine's."
        if is_wrong
        else "",
        facts={"clock_difference_ms": milliseconds},
    )
