"""ATOMIC_REQUESTS on views whose transaction the engine owns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections, transaction
from django.http import HttpRequest


class EveryAlias(set[str]):
    """The aliases that a view exempts from ATOMIC_REQUESTS: to Django all of them, to us those its author named."""

    def __contains__(self, alias: object) -> bool:
        return True


def own_transactions(view: Callable[..., Any]) -> None:
    """Keep Django from wrapping the view; ``atomic_requests`` does so where the engine does not."""
    view._non_atomic_requests = EveryAlias(getattr(view, "_non_atomic_requests", ()))  # type: ignore[attr-defined]


@contextmanager
def atomic_requests(request: HttpRequest, *, owned: str | None = None) -> Iterator[Callable[[], None]]:
    """Open what ATOMIC_REQUESTS asks for, but for the ``owned`` alias; yield what rolls it back at the end."""
    aliases = [alias for alias, options in connections.settings.items() if options.get("ATOMIC_REQUESTS")]
    if aliases:
        exempt = {owned, *_exempt(request)}
        aliases = [alias for alias in aliases if alias not in exempt]
    if not aliases:
        yield _nothing
        return
    with ExitStack() as stack:
        for alias in aliases:
            stack.enter_context(transaction.atomic(using=alias))
        yield lambda: _roll_back(aliases)


@contextmanager
def shielded() -> Iterator[None]:
    """Keep DRF's ``set_rollback()`` away from a transaction around the whole request, such as that of a TestCase."""
    with ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            if (
                connection.settings_dict["ATOMIC_REQUESTS"]
                and connection.in_atomic_block
                and not connection.needs_rollback
            ):
                stack.enter_context(transaction.atomic(using=connection.alias))
        yield


def _exempt(request: HttpRequest) -> list[str]:
    view = getattr(request.resolver_match, "func", None)
    named: Iterable[str] = getattr(view, "_non_atomic_requests", ())
    return list(named)


def _roll_back(aliases: list[str]) -> None:
    for alias in aliases:
        transaction.set_rollback(True, using=alias)


def _nothing() -> None:
    """Roll nothing back."""
