"""Policies: what a view or a job asks of its operations."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

from django_idempotency.core.fingerprints import FieldFilter
from django_idempotency.core.keys import KEY_FORMATS, KeyFormat
from django_idempotency.core.leases import MINUTE, OnCrash, Reconcile

Keep = Literal["success", "returned", "raised"]
BodyProtection = Literal["full", "encrypted", "hash_only", "none"]
ClaimKind = Literal["transaction", "lease"]
OnOutage = Literal["refuse", "run"]
Scope = str | tuple[str, ...]

# Answers about the caller, the connection or the moment, not about the operation.
NEVER_KEPT = frozenset({401, 403, 405, 406, 407, 408, 413, 415, 421, 425, 426, 429, 431})
# Headers that belong to one exchange or one client: a replay takes them from the current request or leaves them out.
_NEVER_KEPT_HEADERS = frozenset(
    """
    age authorization connection content-length cookie date keep-alive retry-after server set-cookie te traceparent
    tracestate trailer transfer-encoding upgrade www-authenticate x-request-id
    """.split()
)
_NEVER_KEPT_PREFIXES = ("access-control-", "content-security-policy", "proxy-", "ratelimit", "x-ratelimit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a view's writes are made idempotent. A field left None takes the project's setting.

    required: refuse a request without a key (400); otherwise such a request runs unprotected.
    methods: HTTP methods that are enrolled.
    key_format: ``uuid_or_ulid``, ``uuid``, ``ulid``, ``any`` or a callable that judges a key.
    ttl: how long an outcome is replayed.
    keep: which answers are kept: only ``success`` (2xx, 3xx); also a 4xx that was ``returned``; also one that was
        ``raised``, recorded after its effects were rolled back. What is not kept is rolled back and may be tried again.
    headers: names of further response headers to keep, beside the standard ones that describe the outcome.
    body: ``encrypted`` keeps headers and body of a response with secrets, and the results of steps, encrypted; ``none``
        keeps status and headers, not the body; ``hash_only`` keeps the SHA-256 of the body with them.
    max_body: bytes; a longer response leaves a tombstone that is never run again and never replayed.
    wait: how long a duplicate in flight waits for the outcome before it is refused.
    retry_after: seconds that a refused duplicate is told to wait.
    conflict_retries: how often the view is run again after a serialization failure or a deadlock.
    scope: resolves tenant and principal from the request, in place of its user.
    may_replay: takes the request and tells whether it may see the outcome of an earlier one; else it is refused (403).
    form_field: name of the form field that carries the key of a browser form, which sends no header.
    fingerprint_fields, fingerprint_exclude: members of the JSON object or form that alone count, or do not count.
    throttle_replays: whether a replay counts against the view's throttles.
    store: alias in ``IDEMPOTENCY_STORES``.
    on_outage: what becomes of a request whose store cannot be reached: ``refuse`` answers 503, ``run`` runs it
        unprotected, and logs an error. A lease is never run so.
    claim: ``transaction`` commits the claim together with effects and outcome; ``lease`` commits it first, for effects
        that leave the database.
    lease: how long a claim holds without a heartbeat.
    heartbeat: how often a running claim is renewed, by default three times a lease; zero never renews it.
    heartbeat_limit: how long a run is kept alive at most; then its lease ends.
    on_crash: what becomes of an operation that broke off: ``retry`` runs it again, ``unknown`` never does so by itself.
    reconcile: asks whether an operation of unknown outcome was done. Takes the claim; returns its outcome, ``not_done``
        or None where that cannot be told.
    """

    required: bool = False
    methods: Collection[str] = ("POST", "PATCH")
    key_format: KeyFormat | None = None
    ttl: timedelta | None = None
    keep: Keep = "returned"
    headers: Collection[str] = ()
    body: BodyProtection = "full"
    max_body: int | None = None
    wait: timedelta = timedelta(0)
    retry_after: int = 1
    conflict_retries: int = 0
    scope: Callable[[Any], Scope] | None = None
    may_replay: Callable[[Any], bool] | None = None
    form_field: str = ""
    fingerprint_fields: Collection[str] | None = None
    fingerprint_exclude: Collection[str] = ()
    throttle_replays: bool = True
    store: str = "default"
    on_outage: OnOutage = "refuse"
    claim: ClaimKind = "transaction"
    lease: timedelta = MINUTE
    heartbeat: timedelta | None = None
    heartbeat_limit: timedelta = 15 * MINUTE
    on_crash: OnCrash = "retry"
    reconcile: Reconcile | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "methods", frozenset(method.upper() for method in self.methods))
        set_field(self, "headers", frozenset(name.lower() for name in self.headers))
        set_field(self, "fingerprint_exclude", frozenset(self.fingerprint_exclude))
        if self.fingerprint_fields is not None:
            set_field(self, "fingerprint_fields", frozenset(self.fingerprint_fields))
        self._validate()

    def _validate(self) -> None:
        choices = {"keep": Keep, "body": BodyProtection, "claim": ClaimKind, "on_crash": OnCrash, "on_outage": OnOutage}
        for name, kind in choices.items():
            allowed = get_args(kind)
            if getattr(self, name) not in allowed:
                raise ValueError(f"Policy.{name} must be one of {allowed}.")
        self._validate_numbers()
        self._validate_lease()
        refused = [
            name for name in self.headers if name in _NEVER_KEPT_HEADERS or name.startswith(_NEVER_KEPT_PREFIXES)
        ]
        if refused:
            raise ValueError(f"Policy.headers must not name {sorted(refused)}: they are never replayed.")
        if self.key_format is not None and not callable(self.key_format) and self.key_format not in KEY_FORMATS:
            raise ValueError(f"Policy.key_format must be callable or one of {sorted(KEY_FORMATS)}.")

    def _validate_numbers(self) -> None:
        if self.ttl is not None and self.ttl < timedelta(seconds=1):
            raise ValueError("Policy.ttl must be at least one second.")
        if self.wait < timedelta(0):
            raise ValueError("Policy.wait must not be negative.")
        if self.retry_after < 1:
            raise ValueError("Policy.retry_after must be at least one second.")
        if self.conflict_retries < 0:
            raise ValueError("Policy.conflict_retries must not be negative.")
        if self.max_body is not None and self.max_body < 0:
            raise ValueError("Policy.max_body must not be negative.")

    def _validate_lease(self) -> None:
        if self.lease < timedelta(seconds=1):
            raise ValueError("Policy.lease must be at least one second.")
        if self.heartbeat is not None and not timedelta(0) <= self.heartbeat < self.lease:
            raise ValueError("Policy.heartbeat must be shorter than the lease, and not negative.")
        if self.heartbeat_limit < self.lease:
            raise ValueError("Policy.heartbeat_limit must not be shorter than the lease.")
        if self.claim == "lease" and self.on_outage == "run":
            raise ValueError("Policy.on_outage must be 'refuse' under a lease, whose steps need their store.")

    def keeps(self, status: int, *, raised: bool = False) -> bool:
        """Tell whether an answer with this status is the outcome of the operation."""
        if status >= 500 or status in NEVER_KEPT:
            return False
        if raised:
            return self.keep == "raised"
        return status < 400 or self.keep != "success"

    @property
    def field_filter(self) -> FieldFilter | None:
        """Return the predicate of the members that count, None where all do."""
        fields, exclude = self.fingerprint_fields, frozenset(self.fingerprint_exclude)
        if fields is not None:
            chosen = frozenset(fields) - exclude
            return lambda name: name in chosen
        return (lambda name: name not in exclude) if exclude else None
