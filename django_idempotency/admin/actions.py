"""Decisions on a record: a page that asks, a POST that does, a log entry and an audit event of each."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from django_idempotency.admin.desk import Desk
from django_idempotency.admin.forms import DecisionForm
from django_idempotency.admin.verbs import VERBS, Verb
from django_idempotency.conf import settings
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.models import Record
from django_idempotency.stores import get_store
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.resolution import Decision, LeaseIsLive, NothingToResolve, RecordChanged
from django_idempotency.stores.sightings import Sighting, find

if TYPE_CHECKING:
    _Desk = Desk
else:
    _Desk = object

#: As much of a body as a page shows.
SHOWN_BODY = 64 * 1024


class Decisions(_Desk):
    """The addresses of the verbs, and which of them a page offers."""

    def get_urls(self) -> list[Any]:
        """Add an address a verb."""
        return [*map(self._address, VERBS), *super().get_urls()]

    def _address(self, verb: Verb) -> URLPattern:
        view = self.admin_site.admin_view(sensitive_post_parameters("body")(partial(self.decide, verb=verb)))
        return path(f"<int:pk>/{verb.name}/", view, name=f"idempotency_record_{verb.name.replace('-', '_')}")

    def offered(self, request: HttpRequest, record: Record) -> list[dict[str, Any]]:
        """Return the verbs that make sense for a record and that this user may use, with their addresses."""
        return [
            {"verb": verb, "address": reverse(f"{self.admin_site.name}:{_name(verb)}", args=[record.pk])}
            for verb in VERBS
            if verb.applies(record) and self.may(request, verb.permission)
        ]

    @sensitive_variables()
    def decide(self, request: HttpRequest, pk: int, verb: Verb) -> HttpResponse:
        """Ask (GET), or carry out what was confirmed (POST)."""
        if not (self.has_view_permission(request) and self.may(request, verb.permission)):
            raise PermissionDenied
        record = self.get_object(request, str(pk))
        if record is None:
            raise Http404
        seen = find(self.alias, digest=bytes(record.digest).hex())
        form = verb.form(request.POST if request.method == "POST" else None, initial={"seen": _state(seen)})
        if request.method == "POST" and form.is_valid():
            try:
                result = self._carry_out(request, verb, record, seen, form)
            except IdempotencyError as error:
                form.add_error(None, _explained(error))
            else:
                return self._answer(request, verb, record, result)
        return self._page(request, verb, record, {"form": form, "seen": seen, "is_live": seen.is_live})

    def _carry_out(self, request: HttpRequest, verb: Verb, record: Record, seen: Sighting, form: DecisionForm) -> Any:
        asked = form.cleaned_data
        if asked["seen"] != _state(seen):
            raise RecordChanged
        decision = Decision(actor=actor(request), reason=asked["reason"], force=asked.get("force", False))
        with transaction.atomic(using=self.alias):
            result = verb.run(store_of(self.alias), seen, decision, asked)
            self.log_change(request, record, f"{verb.name}: {decision.reason}")
        return result

    def _answer(self, request: HttpRequest, verb: Verb, record: Record, result: Any) -> HttpResponse:
        if verb.name == "reveal":
            response = self._page(request, verb, record, {"is_revealed": True, "body": _text(result)})
            response.headers["Cache-Control"] = "no-store"
            return response
        self.message_user(request, verb.past, messages.SUCCESS)
        is_there = self.get_queryset(request).filter(pk=record.pk).exists()
        name, arguments = ("change", [record.pk]) if is_there else ("changelist", [])
        return HttpResponseRedirect(reverse(f"{self.admin_site.name}:idempotency_record_{name}", args=arguments))

    def _page(self, request: HttpRequest, verb: Verb, record: Record, more: dict[str, Any]) -> TemplateResponse:
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": verb.label,
            "opts": self.opts,
            "verb": verb,
            "record": record,
            "digest": bytes(record.digest).hex(),
            **more,
        }
        return TemplateResponse(request, "admin/idempotency/decision.html", context)


def _name(verb: Verb) -> str:
    return f"idempotency_record_{verb.name.replace('-', '_')}"


def actor(request: HttpRequest) -> str:
    """Return who decides, as the audit names them."""
    user: Any = request.user
    return f"user:{user.get_username()}"


def store_of(alias: str) -> DatabaseStore:
    """Return the store whose records are in this database, with whatever cache stands before it."""
    stores = [store for store in map(get_store, settings.STORES) if isinstance(store, DatabaseStore)]
    return next((store for store in stores if store.alias == alias), DatabaseStore(using=alias))


def _state(seen: Sighting) -> str:
    """Return what changes with each change of the record that a decision depends on."""
    facts = [seen.digest.hex(), seen.status, seen.attempt, str(seen.owner), seen.steps_text]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _explained(error: IdempotencyError) -> str:
    if isinstance(error, LeaseIsLive):
        return _("Its lease is still held. Wait until it ends, or overrule it below.")
    if isinstance(error, NothingToResolve):
        return _("It is completed: there is nothing to decide.")
    if isinstance(error, RecordChanged):
        return _("The record has changed since you looked at it. Look again, then decide.")
    return _("The database could not do it. Nothing has changed.")


def _text(body: bytes | None) -> str | None:
    """Return the beginning of a body as text, JSON indented."""
    if body is None:
        return None
    shown = body[:SHOWN_BODY]
    try:
        return json.dumps(json.loads(shown), indent=2, ensure_ascii=False)
    except ValueError:
        return shown.decode("utf-8", "backslashreplace")
