"""``python -m tests.admin.screenshots`` takes the pictures of the documentation, on a database of its own."""

from __future__ import annotations

import json
import os
import random
import sys
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import django

IMAGES = Path(__file__).parents[2] / "docs" / "images"
OPERATIONS = {
    "POST charge-list": (620, 70, 9, 3),
    "POST payout-list": (180, 41, 14, 1),
    "PATCH charge-detail": (240, 8, 1, 0),
    "POST refund-list": (60, 9, 2, 2),
}
OUTCOMES = ("executed", "replayed", "in_progress", "mismatch")


def main() -> None:
    """Fill a database, serve it, and take the pictures."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from django.test.utils import setup_databases, setup_test_environment, teardown_databases

    from tests.admin.browsers import browsing, chromium_path, serving

    if chromium_path() is None:
        sys.exit("chromium is not installed")
    setup_test_environment()
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        shown = fill()
        with serving() as address, browsing() as browser:
            for name, options, path in scenes(shown):
                take(browser, address, name, options, path)
    finally:
        teardown_databases(databases, verbosity=0)


def scenes(shown: Any) -> list[tuple[str, dict[str, Any], str]]:
    """Return names, options of the browser, and addresses."""
    index = "/admin/idempotency/"
    return [
        ("dashboard", {"color_scheme": "light"}, index),
        ("dashboard-dark", {"color_scheme": "dark"}, index),
        ("dashboard-rtl", {"color_scheme": "light", "locale": "ar"}, index),
        ("records", {"color_scheme": "light", "viewport": {"width": 1600, "height": 900}}, f"{index}record/"),
        ("record", {"color_scheme": "light"}, f"{index}record/{shown.pk}/change/"),
        ("decision", {"color_scheme": "light"}, f"{index}record/{shown.pk}/erase/"),
    ]


def take(browser: Any, address: str, name: str, options: dict[str, Any], path: str) -> None:
    """Take one picture; end where the browser complains."""
    from tests.admin.browsers import Visitor

    visitor = Visitor(browser, address, "admin", **options)
    visitor.visit(path)
    visitor.page.screenshot(path=IMAGES / f"{name}.png", full_page=name == "record")
    visitor.context.close()
    if visitor.complaints:
        sys.exit(f"{name}: {visitor.complaints}")
    print(IMAGES / f"{name}.png")


def fill() -> Any:
    """Make a day of records, sums and events; return the record whose page is shown."""
    from django.contrib.auth.models import User
    from django.utils import timezone

    from tests.admin.desks import make_events, make_record, make_waiting

    User.objects.create_superuser("admin", password="admin")
    chance, now = random.Random(7), timezone.now()
    make_sums(chance, now)
    for minute in range(55):
        make_record(**facts(chance), at=now - timedelta(minutes=minute, seconds=chance.randrange(50)))
    for status, minutes in (("in_progress", 12), ("unknown", 120)):
        begun = {name: value for name, value in facts(chance).items() if name in ("operation", "scope")}
        make_waiting(status, lapsed=True, **begun, at=now - timedelta(minutes=minutes))
    shown = make_record(
        **{**facts(chance), "operation": "POST charge-list"},
        key=str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        request_id="req-7f3a2c",
        response_body=json.dumps({"id": "ch_5f0c", "amount_cents": 4200}).encode(),
        response_headers=[["Content-Type", "application/json"], ["Location", "/api/charges/ch_5f0c/"]],
        at=now - timedelta(minutes=31),
    )
    same = {"digest": bytes(shown.digest), "operation": shown.operation, "scope": shown.scope}
    make_events("in_progress", at=now - timedelta(minutes=30, seconds=59), status=409, **same)
    make_events("replayed", 3, at=now - timedelta(minutes=30), status=201, **same)
    make_events("mismatch", at=now - timedelta(minutes=12), status=422, **same)
    make_events(
        "body_revealed",
        at=now - timedelta(minutes=4),
        actor="user:mira",
        reason="The bank asked what was charged",
        **same,
    )
    return shown


def facts(chance: random.Random) -> dict[str, Any]:
    """Return what differs from record to record."""
    return {
        "operation": chance.choice(list(OPERATIONS)),
        "scope": f"auth.user:{chance.randrange(1, 400)}",
        "duration": round(chance.lognormvariate(-4.6, 0.8), 4),
        "outcome_hash": chance.randbytes(32),
    }


def make_sums(chance: random.Random, now: datetime) -> None:
    """Make the hourly sums of a day."""
    from django_idempotency.audit.rollups import DURATION_BOUNDS
    from django_idempotency.models import Rollup

    begin = now.replace(minute=0, second=0, microsecond=0)
    for hour in range(25):
        busy = 0.35 + 0.65 * abs(12 - (hour + 5) % 24) / 12
        for operation, usual in OPERATIONS.items():
            for outcome, count in zip(OUTCOMES, usual, strict=True):
                several = int(
                    count * busy * chance.uniform(0.8, 1.2) * (6 if hour == 7 and outcome == "replayed" else 1)
                )
                classes = [0] * (len(DURATION_BOUNDS) + 1)
                for _number in range(several if outcome == "executed" else 0):
                    duration = chance.lognormvariate(-4.6, 0.8)
                    classes[sum(duration > bound for bound in DURATION_BOUNDS)] += 1
                Rollup.objects.create(
                    hour=begin - timedelta(hours=hour),
                    layer="http",
                    operation=operation,
                    outcome=outcome,
                    count=several,
                    durations=classes,
                )


if __name__ == "__main__":
    main()
