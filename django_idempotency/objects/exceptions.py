"""Errors of content that is stored under its digest."""

from __future__ import annotations

from django_idempotency.exceptions import IdempotencyError


class ObjectError(IdempotencyError):
    """The object could not be stored or read."""


class ObjectCorrupted(ObjectError):
    """The stored bytes are not those that the name promises."""


class ObjectImmutable(ObjectError):
    """Stored content is never changed or deleted; idempotency_blobs collect removes what nothing refers to."""


class ObjectContended(ObjectError):
    """The object could not be stored because others kept changing it at the same time; try again."""


class CollectionRefused(ObjectError):
    """Nothing was collected."""


class CollectorRunning(CollectionRefused):
    """Another collector is at work in this storage."""
