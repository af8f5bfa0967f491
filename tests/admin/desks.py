"""Who sits at the desk, and what lies on it."""

from __future__ import annotations

import hashlib
import itertools
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_idempotency.models import AuditEvent, Record

LIST = "admin:idempotency_record_changelist"
EVENTS = "admin:idempotency_auditevent_changelist"
VIEWS = ("view_record", "view_auditevent", "view_rollup")
VERBS = ("reveal_body", "release_record", "resolve_record", "erase_record", "export_record")
CANARY_KEY = "canarykey-3c1f-4a57-9a50-1f0f6b7d2c11"
CANARY_BODY = "canarybody-91d2"
CANARY_TOKEN = "canarytoken-77aa"
_numbers = itertools.count(1)


def staff(name: str, *permissions: str) -> User:
    """Make a user of the admin with these permissions and no others."""
    user = User.objects.create_user(name, password=name, is_staff=True)
    found = Permission.objects.filter(content_type__app_label="idempotency", codename__in=permissions)
    assert len(found) == len(permissions)
    user.user_permissions.set(found)
    return user


def seat(user: User) -> Client:
    """Return a client that is logged in, and takes a failure for an answer."""
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def make_record(**values: Any) -> Record:
    """Make a record that was completed a minute ago, unless told otherwise."""
    number = next(_numbers)
    ago = timezone.now() - timedelta(minutes=1)
    at: datetime = values.pop("at", ago)
    facts: dict[str, Any] = {
        "digest": hashlib.sha256(f"digest {number}".encode()).digest(),
        "scope": "auth.user:1",
        "operation": "POST payment-list",
        "key": f"key-of-record-{number:08}",
        "fingerprint": hashlib.sha256(f"fingerprint {number}".encode()).digest(),
        "fingerprint_version": 1,
        "fingerprint_secret": "a1b2c3d4",
        "status": "completed",
        "response_status": 201,
        "response_headers": [["Content-Type", "application/json"]],
        "response_body": b'{"id": 1}',
        "outcome_hash": bytes(32),
        "created_at": at,
        "completed_at": at,
        "expires_at": timezone.now() + timedelta(days=1),
        "duration": 0.004,
    }
    return Record.objects.create(**{**facts, **values})


def make_waiting(status: str, *, lapsed: bool = False, **values: Any) -> Record:
    """Make a record that is not completed."""
    left = timedelta(minutes=-5 if lapsed else 5)
    facts: dict[str, Any] = {
        "completed_at": None,
        "response_status": None,
        "response_body": None,
        "response_headers": [],
        "outcome_hash": None,
        "duration": None,
        "lease_expires_at": timezone.now() + left if status == "in_progress" else None,
    }
    return make_record(status=status, **{**facts, **values})


def make_events(event: str, count: int = 1, *, at: datetime | None = None, **values: Any) -> AuditEvent:
    """Write down one event that stands for ``count`` alike."""
    facts: dict[str, Any] = {"operation": "POST payment-list", "scope": "auth.user:1"}
    at = at or timezone.now() - timedelta(minutes=1)
    return AuditEvent.objects.create(event=event, count=count, at=at, **{**facts, **values})


def page_of(record: Record) -> str:
    """Return the address of a record's page."""
    return reverse("admin:idempotency_record_change", args=[record.pk])


def verb_of(record: Record, verb: str) -> str:
    """Return the address of a decision on a record."""
    return reverse(f"admin:idempotency_record_{verb.replace('-', '_')}", args=[record.pk])
