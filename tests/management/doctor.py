"""``idempotency_doctor`` as a test reads it."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from django.core.management import CommandError, call_command


class Doctor:
    """What the command said, and whether it exited with 1."""

    def __init__(self, *options: str) -> None:
        output, self.failed = StringIO(), False
        try:
            call_command("idempotency_doctor", "--json", *options, stdout=output)
        except CommandError as error:
            self.failed = error.returncode == 1
        self.text = output.getvalue()
        self.report = json.loads(self.text)
        self.findings: list[dict[str, Any]] = self.report["findings"]

    def about(self, subject: str) -> list[tuple[str, str]]:
        return [(one["level"], one["text"]) for one in self.findings if one["subject"] == subject]

    def fact(self, name: str) -> Any:
        (value,) = (finding["facts"][name] for finding in self.findings if name in finding["facts"])
        return value

    def bad(self) -> list[tuple[str, str, str]]:
        """Return what is not ok, but for the check that says what RedisStore is."""
        bad = [(one["subject"], one["level"], one["text"]) for one in self.findings if one["level"] != "ok"]
        return [one for one in bad if "W030" not in one[2]]
