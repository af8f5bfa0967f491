"""The nightly file of facts: read, checked, and upserted in one transaction."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from demo_project.models import Fact
from django_idempotency.writes import UpsertResult, upsert

COLUMNS = ("biz_key", "amount_cents", "note")


def import_facts(file: Path) -> UpsertResult[Fact]:
    """Import a CSV file. Raises ValueError or ValidationError for one that is not as it should be."""
    return upsert(Fact, _facts(file))


def _facts(file: Path) -> Iterator[Fact]:
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        if missing := set(COLUMNS) - set(reader.fieldnames or ()):
            raise ValueError(f"There is no column {', '.join(sorted(missing))}.")
        for row in reader:
            fact = Fact(**{name: row[name] for name in COLUMNS})
            fact.clean_fields()
            yield fact
