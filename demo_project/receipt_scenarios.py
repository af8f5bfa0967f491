"""Duplicates of content: who uploads the same report a second time gets a receipt of their own for the same object."""

from __future__ import annotations

import json
from dataclasses import dataclass

from demo_project.clients import RECEIPTS, Payment
from demo_project.results import Check, Facts
from demo_project.stages import Stage

_BOUNDARY = "a-line-that-is-in-no-report"


@dataclass(frozen=True, slots=True)
class Upload(Payment):
    """A report as the client remembers it for its retries."""

    path: str = RECEIPTS

    @property
    def body(self) -> bytes:
        """The form to send; reports of one user and amount are the same."""
        report = f"{self.user_id} owes {self.amount_cents} cents.\n" * 1000
        parts = (
            ('name="user_id"', self.user_id),
            (f'name="file"; filename="report-{self.key[:4]}.txt"', report),
        )
        lines = [f"--{_BOUNDARY}\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n" for name, value in parts]
        return "".join([*lines, f"--{_BOUNDARY}--\r\n"]).encode()

    @property
    def headers(self) -> dict[str, str]:
        """The headers to send."""
        return {**super(Upload, self).headers, "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}


def uploaded_twice(stage: Stage) -> Facts:
    """Two people upload the same report under names of their own, and one of them does so again."""
    first, second = (Upload(stage.user_id, 1000) for _ in range(2))
    for upload in (first, second, first):
        stage.client.insist(upload)
    answers = [json.loads(exchange.body) for exchange in stage.client.exchanges if exchange.is_executed]
    return stage.facts(
        Check(name="objects they are stored as", expected=1, measured=len({answer["digest"] for answer in answers})),
        Check(name="uploads that stored the content", expected=1, measured=sum(answer["is_new"] for answer in answers)),
        rows=2,
    )
