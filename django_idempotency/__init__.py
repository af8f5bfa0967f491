"""Writes that cannot fire twice: idempotency keys for Django and Django REST framework."""

from typing import TYPE_CHECKING, Any

from django_idempotency.core.policies import Policy

if TYPE_CHECKING:
    from django_idempotency.http.decorators import idempotent

__all__ = ["Policy", "idempotent"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the decorator when it is asked for: it needs Django, the policies do not."""
    if name == "idempotent":
        from django_idempotency.http.decorators import idempotent

        return idempotent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
