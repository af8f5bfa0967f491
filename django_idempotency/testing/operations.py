"""Operations and outcomes to test with."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django_idempotency.core.fingerprints import Keyring, content_digest
from django_idempotency.core.keys import IdempotencyKey
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation

CREATED = Outcome(status=201, headers=(("Location", "/payments/1/"),), body=b'{"id": 1, "name": "\xc3\xa9\x00"}')
DAY = timedelta(days=1)


def make_operation(content: str = "content", *, key: str = "", scope: str = "user:1") -> Operation:
    """Return an operation; equal arguments give the same one, no key a new one."""
    return Operation(
        key=IdempotencyKey(value=key or str(uuid.uuid4()), scope=(scope,), operation="POST payment-list"),
        content_digest=content_digest([content]),
        keyring=Keyring.of(["a secret"]),
    )
