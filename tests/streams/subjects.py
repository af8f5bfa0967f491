"""A consumption of the tests, told to end where the topic does."""

from __future__ import annotations

import threading
from typing import Any

from django_idempotency.streams.batches import Counts
from django_idempotency.streams.consumption import Consumption
from django_idempotency.streams.sinks import Sink


def consume(sink: Sink, **options: Any) -> dict[str, int]:
    """Handle what there is; return the counts."""
    counts: Counts = Consumption(sink, until_caught_up=True, poll=0.05, **options).run(threading.Event())
    return {outcome: count for outcome, count in counts.items() if count}
