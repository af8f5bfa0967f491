"""The bank's client: a transfer under a key, and failures told apart by whether money may have moved."""

from __future__ import annotations

from typing import Any

import httpx
from django.conf import settings

from demo_project.bank import FAULT_HEADER
from django_idempotency.exceptions import NotDone

_SECONDS = 10.0


class BankFailed(RuntimeError):
    """The bank gave no answer to a transfer, or one that is no payment: whether it has paid is not known here."""


def transfer(key: str, user_id: str, amount_cents: int, fault: str = "") -> str:
    """Pay once for this key, and return the bank's reference. Raises NotDone if nothing was sent, BankFailed."""
    headers = {"Idempotency-Key": key, **({FAULT_HEADER: fault} if fault else {})}
    try:
        answer = _post({"user_id": user_id, "amount_cents": amount_cents}, headers)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise NotDone("The bank cannot be reached.") from error
    except httpx.TransportError as error:
        raise BankFailed("The bank did not answer.") from error
    if answer.status_code != httpx.codes.CREATED:
        raise BankFailed(f"The bank answered {answer.status_code}.")
    return str(answer.json()["reference"])


def ledger(url: str, user_id: str) -> dict[str, Any]:
    """Return how often the bank at an address was called for a user, and has paid."""
    with _client(url) as client:
        found: dict[str, Any] = client.get("/ledger", params={"user_id": user_id}).raise_for_status().json()
        return found


def _post(body: dict[str, object], headers: dict[str, str]) -> httpx.Response:
    if not settings.DEMO_BANK_URL:
        raise NotDone("DEMO_BANK_URL names no bank.")
    with _client(settings.DEMO_BANK_URL) as client:
        return client.post("/transfers", json=body, headers=headers)


def _client(url: str) -> httpx.Client:
    # A proxy of the environment has no business in between; plain HTTP has no certificates to load.
    return httpx.Client(base_url=url, timeout=_SECONDS, trust_env=False, verify=False)
