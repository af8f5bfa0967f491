"""The ``IDEMPOTENCY_*`` settings: typed, with defaults, read through to Django's settings on each access."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import empty
from django.utils.module_loading import import_string

from django_idempotency.core.fingerprints import Keyring
from django_idempotency.core.keys import KeyFormat
from django_idempotency.core.policies import Policy
from django_idempotency.core.protection import Cipher, Vault

PREFIX = "IDEMPOTENCY_"


class Settings:
    """Each attribute is the setting of that name with the prefix ``IDEMPOTENCY_``; its value here is the default."""

    #: Stores by alias, as Django's CACHES: a dict with BACKEND and OPTIONS each.
    STORES: dict[str, dict[str, Any]] = {
        "default": {"BACKEND": "django_idempotency.stores.database.DatabaseStore"},
    }
    #: How long outcomes are replayed: seconds or a timedelta.
    TTL: int | timedelta = 24 * 3600
    #: How long hourly sums are kept: seconds or a timedelta.
    ROLLUP_TTL: int | timedelta = 400 * 24 * 3600
    #: How long audit events are kept: seconds or a timedelta.
    AUDIT_TTL: int | timedelta = 7 * 24 * 3600
    #: How long the runs of jobs are kept after their end: seconds or a timedelta.
    JOB_RUNS_TTL: int | timedelta = 90 * 24 * 3600
    #: Names of the request header, the first being the one that documents name.
    HEADERS: tuple[str, ...] = ("Idempotency-Key",)
    #: Name of the request header with an id of the request, which is kept beside its record.
    REQUEST_ID_HEADER: str = "X-Request-ID"
    #: Name of the response header that marks a replay.
    REPLAYED_HEADER: str = "Idempotent-Replayed"
    #: Refuse keys without the quotes of RFC 9651.
    STRICT_SYNTAX: bool = False
    #: ``uuid_or_ulid``, ``uuid``, ``ulid``, ``any`` or a callable.
    KEY_FORMAT: KeyFormat = "uuid_or_ulid"
    #: ``plain`` keeps the client's key beside its digest so that it can be found in the admin; ``digest`` keeps none.
    STORE_KEYS: str = "plain"
    #: Secrets of the fingerprints, newest first; empty: derived from SECRET_KEY and SECRET_KEY_FALLBACKS.
    SECRETS: tuple[str, ...] = ()
    #: Keys of encrypted outcomes, newest first; empty: derived from SECRET_KEY and SECRET_KEY_FALLBACKS.
    ENCRYPTION_KEYS: tuple[str, ...] = ()
    #: Dotted path of the class that encrypts: see ``core.protection.Cipher``.
    CIPHER: str = "django_idempotency.contrib.cryptography.AEAD"
    #: How often the project purges what has expired: seconds or a timedelta.
    CLEANUP_INTERVAL: int | timedelta = 3600
    #: Bytes of a response body that are kept; a longer one leaves a tombstone.
    MAX_BODY: int = 1024 * 1024
    #: Upper bound of waiting for an operation in flight, whatever ``Prefer: wait=`` says: seconds or a timedelta.
    MAX_WAIT: int | timedelta = 10
    #: Threads of one process that may wait at the same time.
    MAX_WAITERS: int = 4
    #: Policies of the views that the middleware enrols, by patterns of their view names; the first match counts.
    ENROLLED: dict[str, Policy] = {}
    #: What a key on a method that is not enrolled gets: ``ignore`` (answered, and said so) or ``refuse`` (501).
    UNENROLLED: str = "ignore"
    #: Operations that metrics tell apart, in each process; the others are counted together as ``other``.
    METRICS_MAX_OPERATIONS: int = 200
    #: Brokers by alias, as Django's CACHES: a dict with BACKEND and OPTIONS each.
    BROKERS: dict[str, dict[str, Any]] = {}
    #: How long published events stay in the outbox: seconds or a timedelta.
    OUTBOX_TTL: int | timedelta = 7 * 24 * 3600
    #: How long consumed events are remembered from when they were published: seconds or a timedelta.
    INBOX_TTL: int | timedelta = 14 * 24 * 3600
    #: How long brokers keep records: seconds, a timedelta, or None to have them asked (``check --deploy``).
    BROKER_RETENTION: int | timedelta | None = None
    #: Bytes of a payload that may be published.
    MAX_EVENT: int = 1_000_000
    #: Whether the pages are registered with the default admin site.
    ADMIN: bool = True

    def __getattribute__(self, name: str) -> Any:
        default = super().__getattribute__(name)
        if not name.isupper():
            return default
        # Past the lazy object in front of them, where a setting that nobody has set costs twenty times as much.
        current = object.__getattribute__(django_settings, "_wrapped")
        return getattr(django_settings if current is empty else current, PREFIX + name, default)

    @property
    def ttl(self) -> timedelta:
        """The default retention of outcomes."""
        return _duration(self.TTL)

    @property
    def audit_ttl(self) -> timedelta:
        """The retention of audit events."""
        return _duration(self.AUDIT_TTL)

    @property
    def job_runs_ttl(self) -> timedelta:
        """The retention of the runs of jobs."""
        return _duration(self.JOB_RUNS_TTL)

    @property
    def cleanup_interval(self) -> timedelta:
        """How often expired rows are purged."""
        return _duration(self.CLEANUP_INTERVAL)

    @property
    def rollup_ttl(self) -> timedelta:
        """The retention of hourly sums."""
        return _duration(self.ROLLUP_TTL)

    @property
    def outbox_ttl(self) -> timedelta:
        """The retention of published events."""
        return _duration(self.OUTBOX_TTL)

    @property
    def inbox_ttl(self) -> timedelta:
        """The retention of consumed events."""
        return _duration(self.INBOX_TTL)

    @property
    def broker_retention(self) -> timedelta | None:
        """How long brokers keep records, as far as that is stated."""
        return None if self.BROKER_RETENTION is None else _duration(self.BROKER_RETENTION)

    @property
    def max_wait(self) -> timedelta:
        """The bound of every wait."""
        return _duration(self.MAX_WAIT)

    @property
    def keyring(self) -> Keyring:
        """The fingerprint secrets."""
        return Keyring.of(self.SECRETS or _secret_keys())

    @property
    def vault(self) -> Vault:
        """What encrypts outcomes. Raises ImproperlyConfigured where its cipher cannot be had."""
        keyring = Keyring.of(self.ENCRYPTION_KEYS or _secret_keys(), "encryption")
        return Vault(cipher=_cipher(self.CIPHER), keyring=keyring)


@cache
def _cipher(path: str) -> Cipher:
    try:
        cipher: Cipher = import_string(path)()
    except ImportError as error:
        raise ImproperlyConfigured(f"IDEMPOTENCY_CIPHER: {error}") from error
    return cipher


def _secret_keys() -> tuple[str | bytes, ...]:
    return (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)


def _duration(value: float | timedelta) -> timedelta:
    return value if isinstance(value, timedelta) else timedelta(seconds=value)


SETTING_NAMES = frozenset(name for name in vars(Settings) if name.isupper())

settings = Settings()
