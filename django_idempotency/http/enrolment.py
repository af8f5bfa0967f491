"""Which views the middleware enrols, and under which policy."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from django_idempotency.conf import settings
from django_idempotency.core.policies import Policy
from django_idempotency.http.plain import authenticates_itself, is_enrolled


def policy_of(view: Callable[..., Any], view_name: str) -> Policy | None:
    """Return the policy under which the middleware runs a view, None where it leaves it alone.

    A view that only authenticates when it runs is left alone too, unless the policy says who asks.
    """
    if is_enrolled(view):
        return None
    policy = named_policy(view, view_name)
    if policy is None or (authenticates_itself(view) and policy.scope is None):
        return None
    return policy


def named_policy(view: Callable[..., Any], view_name: str) -> Policy | None:
    """Return the policy of the view or of its class, which None opts out, else the first that the setting names."""
    owner: Any
    for owner in (view, getattr(view, "view_class", None), getattr(view, "cls", None)):
        if hasattr(owner, "idempotency"):
            policy: Policy | None = owner.idempotency
            return policy
    matches = (policy for pattern, policy in settings.ENROLLED.items() if fnmatchcase(view_name, pattern))
    return next(matches, None)
