"""``python -m tests.reprocessing.worker LAG`` works behind a watermark that others work behind, until its input ends.

What it has seen it enters in the transaction of its window. Prints the windows that have moved on, as pairs of ends.
"""

from __future__ import annotations

import json
import select
import sys

import django


def main(lag: int) -> None:
    """Work until told to end."""
    django.setup()
    from django.db.models import Max

    from django_idempotency.reprocessing import Watermark
    from tests.reprocessing.models import Entry

    rows, mark = Entry.objects.filter(account="row"), Watermark("shared", type=int)

    def head() -> int:
        highest: int | None = rows.aggregate(highest=Max("amount"))["highest"]
        return 0 if highest is None else highest + 1

    windows = []
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        with mark.window(lag=lag, upto=head) as window:
            low = -lag if window.low is None else window.low
            seen = list(rows.filter(amount__gte=low, amount__lt=window.high).values_list("amount", flat=True))
            Entry.objects.bulk_create(Entry(account="seen", amount=number) for number in seen)
        if not window.is_empty:
            windows.append([window.low, window.high])
    print(json.dumps(windows), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
