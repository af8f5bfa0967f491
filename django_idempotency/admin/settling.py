"""Verbs on rows that wait for somebody: a page that asks why, a POST that does, a log entry of each row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django import forms
from django.contrib import messages
from django.contrib.admin.widgets import AdminTextareaWidget
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_idempotency.admin.actions import actor
from django_idempotency.admin.forms import LONGEST_REASON
from django_idempotency.exceptions import IdempotencyError

if TYPE_CHECKING:
    from django.contrib import admin

    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = object

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What came of a decision: the ids of the rows that it settled, and why the others were not."""

    ids: list[int]
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Something to decide. ``run(rows, actor, reason)`` carries it out, in a transaction with the log entries."""

    name: str
    label: Any
    meaning: Any
    run: Callable[[QuerySet[Any], str, str], Settled]
    is_dangerous: bool = False


class ReasonForm(forms.Form):
    """Why."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=LONGEST_REASON,
        widget=AdminTextareaWidget(attrs={"rows": 3}),
        help_text=gettext_lazy("Kept in the audit as you write it: name no keys and no personal data."),
    )


class Settling(_ModelAdmin):
    """The addresses of the verbs. A decision names its rows by ``id`` in the query, or takes all that wait.

    Rows have a ``payload``, which stays in the database, and a ``status``, which says ``parked`` while they wait.
    """

    change_form_template = "admin/idempotency/settled_form.html"
    settlements: ClassVar[tuple[Settlement, ...]] = ()
    settle_permission: ClassVar[str]
    #: As many rows are settled by one decision; the next one goes on.
    most_settled: ClassVar = 1000

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave payloads in the database."""
        return super().get_queryset(request).defer("payload")

    def waiting(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows that can be settled."""
        parked = cast(Any, self.model).Status.PARKED
        return self.get_queryset(request).filter(status=parked)

    def why(self, row: Any) -> str:
        """Return why a row waits."""
        raise NotImplementedError

    def has_settle_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may decide."""
        user: Any = request.user
        permission = f"{self.opts.app_label}.{self.settle_permission}"
        return self.has_view_permission(request) and bool(user.has_perm(permission))

    def get_urls(self) -> list[Any]:
        """Add an address a verb."""
        views = {one.name: self.admin_site.admin_view(partial(self.settle, verb=one)) for one in self.settlements}
        added = [path(f"settle/{name}/", view, name=self._name(name)) for name, view in views.items()]
        return [*added, *super().get_urls()]

    def _name(self, verb: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{verb}"

    def address(self, verb: str, ids: list[int]) -> str:
        """Return where somebody decides about these rows, or about all that wait."""
        address = reverse(f"{self.admin_site.name}:{self._name(verb)}")
        return f"{address}?{urlencode({'id': ids}, doseq=True)}" if ids else address

    def offered(self, request: HttpRequest, ids: list[int]) -> list[dict[str, Any]]:
        """Return the verbs that this user may use, with their addresses."""
        if not self.has_settle_permission(request):
            return []
        return [{"verb": verb, "address": self.address(verb.name, ids)} for verb in self.settlements]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Add what can be decided."""
        row = kwargs["obj"]
        context["settlements"] = self.offered(request, [row.pk]) if row.status == row.Status.PARKED else []
        return super().render_change_form(request, context, *args, **kwargs)

    def settle(self, request: HttpRequest, verb: Settlement) -> HttpResponse:
        """Ask (GET), or carry out what was confirmed (POST)."""
        if not self.has_settle_permission(request):
            raise PermissionDenied
        rows = self._chosen(request)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                return self._carry_out(request, verb, rows, form.cleaned_data["reason"])
            except (IdempotencyError, DatabaseError):
                form.add_error(None, _("It could not be done. Nothing has changed."))
        return self._page(request, verb, rows, form)

    def _chosen(self, request: HttpRequest) -> QuerySet[Any]:
        rows = self.waiting(request)
        if ids := [int(text) for text in request.GET.getlist("id") if text.isdecimal() and len(text) < 19]:
            rows = rows.filter(pk__in=ids)
        # The ids are fixed now, so that what is logged is what was settled.
        return self.waiting(request).filter(
            pk__in=list(rows.order_by("pk").values_list("pk", flat=True)[: self.most_settled])
        )

    def _carry_out(
        self, request: HttpRequest, verb: Settlement, rows: QuerySet[Any], reason: str
    ) -> HttpResponseRedirect:
        found = {row.pk: row for row in rows.order_by("pk")}
        with transaction.atomic(using=rows.db):
            settled = verb.run(rows, actor(request), reason)
            for pk in settled.ids:
                self.log_change(request, found[pk], f"{verb.name}: {reason}")
        self._tell(request, len(settled.ids), len(found) - len(settled.ids))
        for error in settled.errors[:_SHOWN]:
            self.message_user(request, error, messages.ERROR)
        return HttpResponseRedirect(reverse(f"{self.admin_site.name}:{self._name('changelist')}"))

    def _tell(self, request: HttpRequest, done: int, left: int) -> None:
        if done:
            text = ngettext("%(count)d event is settled.", "%(count)d events are settled.", done)
            self.message_user(request, text % {"count": done}, messages.SUCCESS)
        if left:
            text = ngettext("%(count)d event still waits.", "%(count)d events still wait.", left)
            self.message_user(request, text % {"count": left}, messages.WARNING)

    def _page(self, request: HttpRequest, verb: Settlement, rows: QuerySet[Any], form: ReasonForm) -> TemplateResponse:
        request.current_app = self.admin_site.name
        shown = list(rows.order_by("pk")[: _SHOWN + 1])
        context = {
            **self.admin_site.each_context(request),
            "title": verb.label,
            "opts": self.opts,
            "verb": verb,
            "form": form,
            "rows": [{"name": str(row), "key": row.business_key, "why": self.why(row)} for row in shown[:_SHOWN]],
            "count": rows.count(),
            "has_more": len(shown) > _SHOWN,
        }
        return TemplateResponse(request, "admin/idempotency/settlement.html", context)
