"""Function-based views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rest_framework.views import APIView

from django_idempotency.core.policies import Policy
from django_idempotency.rest_framework.mixins import IdempotencyMixin

View = Callable[..., Any]


def idempotent(policy: Policy | None = None, /, **options: Any) -> Callable[[View], View]:
    """Enrol a function-based view; stands above ``@api_view``. Takes a Policy or its fields."""
    chosen = policy or Policy(**options)

    def decorate(view: View) -> View:
        view_class = getattr(view, "cls", None)
        if view_class is None or not issubclass(view_class, APIView):
            raise TypeError("@idempotent must stand above @api_view.")
        enrolled: Any = type(view_class.__name__, (IdempotencyMixin, view_class), {"idempotency": chosen})
        wrapped: View = enrolled.as_view()
        wrapped.__name__, wrapped.__doc__ = view.__name__, view.__doc__
        wrapped.__module__ = view.__module__
        return wrapped

    return decorate
