"""A4: states, errors, retries."""

from __future__ import annotations

from tests.callers import Caller, new_key
from tests.models import Payment


def test_a4_47_a_retry_replays_status_and_bytes(alice: Caller) -> None:
    key = new_key()
    first = alice.post("/payments/", {"amount": 3}, key=key)
    again = alice.post("/payments/", {"amount": 3}, key=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again["Idempotent-Replayed"] == "true"
    assert Payment.objects.count() == 1
