"""Duplicates of a bank's statement: nobody has given its lines a key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from demo_project.results import Check, Facts
from demo_project.stages import Stage

_LINES, _LATER = 25, 5


def statement_delivered_twice(stage: Stage) -> Facts:
    """The same statement comes in twice at the same moment, and once more at night, with the lines since then."""
    statement = [_line(stage, number) for number in range(_LINES)]
    # Two coffees are no duplicate: somebody had two.
    statement[1] = statement[0]
    later = [_line(stage, number) for number in range(_LINES, _LINES + _LATER)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(stage.client.deliver, [statement, statement]))
    extended = stage.client.deliver([*statement, *later])
    booked = sorted(answer["booked"] for answer in together)
    return stage.facts(
        Check(name="lines booked by the two deliveries", expected=[0, _LINES], measured=booked),
        Check(name="lines booked at night", expected=_LATER, measured=extended["booked"]),
        Check(name="duplicates at night", expected=_LINES, measured=extended["duplicates"]),
        rows=_LINES + _LATER,
    )


def _line(stage: Stage, number: int) -> dict[str, Any]:
    return {"account": stage.user_id, "amount_cents": -350 - number, "booked_on": "2026-03-01", "text": "Coffee"}
