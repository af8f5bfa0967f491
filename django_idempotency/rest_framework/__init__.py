"""The Django REST framework face."""

from django_idempotency.rest_framework.decorators import idempotent
from django_idempotency.rest_framework.mixins import IdempotencyMixin

__all__ = ["IdempotencyMixin", "idempotent"]
