"""The verbs of the desk: what can be decided on a record, by whom, and what it means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.forms import DecisionForm, LeaseForm, OutcomeForm
from django_idempotency.models import Record
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.decisions import erase, expire, reveal
from django_idempotency.stores.resolution import Decision, Resolver
from django_idempotency.stores.sightings import Sighting

#: Carries a decision out; the last argument is what the form asked for.
Run = Callable[[DatabaseStore, Sighting, Decision, dict[str, Any]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """Something to decide. ``permission`` is asked for beside that to view; ``applies`` says where it makes sense."""

    name: str
    permission: str
    label: Any
    meaning: Any
    past: Any
    applies: Callable[[Record], bool]
    run: Run
    form: type[DecisionForm] = DecisionForm
    is_dangerous: bool = True


def _is_waiting(record: Record) -> bool:
    return record.status != Record.Status.COMPLETED


def _can_be_resolved(record: Record) -> bool:
    return record.status in (Record.Status.UNKNOWN, Record.Status.IN_PROGRESS)


def _is_completed(record: Record) -> bool:
    return record.status == Record.Status.COMPLETED


def _release(store: DatabaseStore, seen: Sighting, decision: Decision, asked: dict[str, Any]) -> None:
    Resolver(store=store).release(seen, decision)


def _resolve_done(store: DatabaseStore, seen: Sighting, decision: Decision, asked: dict[str, Any]) -> None:
    Resolver(store=store).resolve_done(seen, decision, asked["outcome"], ttl=asked["ttl"])


def _resolve_not_done(store: DatabaseStore, seen: Sighting, decision: Decision, asked: dict[str, Any]) -> None:
    Resolver(store=store).resolve_not_done(seen, decision)


VERBS = (
    Verb(
        name="release",
        permission="release_record",
        label=_("Release"),
        meaning=_("The record is forgotten with its steps: the next request with this key runs everything anew."),
        past=_("The key is free."),
        applies=_is_waiting,
        run=_release,
        form=LeaseForm,
    ),
    Verb(
        name="resolve-done",
        permission="resolve_record",
        label=_("Resolve as done"),
        meaning=_("It was done: each retry gets the response below, and nothing runs."),
        past=_("The operation is completed; retries get the response."),
        applies=_can_be_resolved,
        run=_resolve_done,
        form=OutcomeForm,
        is_dangerous=False,
    ),
    Verb(
        name="resolve-not-done",
        permission="resolve_record",
        label=_("Resolve as not done"),
        meaning=_("What broke off was not done: the next request goes on after the last step that ended."),
        past=_("The next request goes on with the operation."),
        applies=_can_be_resolved,
        run=_resolve_not_done,
        form=LeaseForm,
        is_dangerous=False,
    ),
    Verb(
        name="expire",
        permission="release_record",
        label=_("Expire now"),
        meaning=_("Its outcome is no longer replayed: the next request with this key runs as new, and fires again."),
        past=_("The record has expired."),
        applies=_is_completed,
        run=lambda store, seen, decision, asked: expire(store, seen, decision),
    ),
    Verb(
        name="erase",
        permission="erase_record",
        label=_("Erase the body"),
        meaning=_("Body and headers of the response are blanked. The record stays, so that nothing runs again."),
        past=_("The body is erased."),
        applies=_is_completed,
        run=lambda store, seen, decision, asked: erase(store, seen, decision),
    ),
    Verb(
        name="reveal",
        permission="reveal_body",
        label=_("Reveal the body"),
        meaning=_("The body is shown once, to you; that you saw it is kept in the audit."),
        past=_("The body"),
        applies=_is_completed,
        run=lambda store, seen, decision, asked: reveal(store, seen, decision),
        is_dangerous=False,
    ),
)
