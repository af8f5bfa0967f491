"""Writes that cannot fire twice: idempotency keys for Django and Django REST framework."""

from django_idempotency.core.policies import Policy

__all__ = ["Policy"]
__version__ = "0.1.0"
