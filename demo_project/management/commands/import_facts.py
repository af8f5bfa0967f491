"""Imports a file of facts; running it again changes nothing."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from demo_project.facts import import_facts


class Command(BaseCommand):
    """Says how many rows were inserted, updated, unchanged and stale."""

    help = "Imports a CSV file with the columns biz_key, amount_cents and note. Safe to repeat."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("file", type=Path)
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        """Import, then say what came of the rows."""
        try:
            counts = import_facts(file).counts
        except (OSError, ValueError, ValidationError) as error:
            raise CommandError(f"{file} was not imported: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps(counts))
        else:
            self.stdout.write(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
