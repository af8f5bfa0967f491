"""Runs the job that writes an invoice, as an operator would by hand."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from demo_project.tasks import issue_invoice


class Command(BaseCommand):
    """Runs the job once, or prints what it has come to before."""

    help = "Writes the invoice of an order, unless there is one, and prints its id as JSON."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("order_id")
        parser.add_argument("user_id")
        parser.add_argument("amount_cents", type=int)
        parser.add_argument("--fault", default="", help="With DEMO_FAULTS=1: kill, after the row is written.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run."""
        given = (options["order_id"], options["user_id"], options["amount_cents"])
        self.stdout.write(json.dumps(issue_invoice(*given, fault=options["fault"])))
