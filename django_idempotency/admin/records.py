"""Records in the admin: found, read and decided on, never edited."""

from __future__ import annotations

from typing import Any, ClassVar

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db.models import Func, IntegerField, Max, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.actions import Decisions
from django_idempotency.admin.dashboard import may_see, purge_preview
from django_idempotency.admin.desk import Desk, masked, short
from django_idempotency.admin.exports import Exports
from django_idempotency.admin.filters import (
    OperationFilter,
    OutcomeFilter,
    ScopeFilter,
    StatusClassFilter,
    WindowFilter,
)
from django_idempotency.admin.finding import is_scope, record_ids
from django_idempotency.admin.limits import TookTooLong
from django_idempotency.admin.lists import DeskList
from django_idempotency.admin.timeline import timeline
from django_idempotency.admin.walks import Walk
from django_idempotency.models import Record

_WAITING = ~Q(status=Record.Status.COMPLETED)


class BodyLength(Func):
    """The bytes of a body."""

    function = "octet_length"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Write what SQLite calls it."""
        return self.as_sql(compiler, connection, function="length", **context)


class RecordAdmin(Decisions, Exports, Desk):
    """Who asked for what, and what came of it."""

    list_display = (
        "short_digest",
        "operation",
        "scope",
        "outcome",
        "attempt",
        "response_status",
        "created_at",
        "expires_at",
    )
    list_display_links = ("short_digest",)
    list_filter = (WindowFilter, OutcomeFilter, StatusClassFilter, OperationFilter, ScopeFilter)
    search_fields = ("key",)  # shows the field; what is searched says find()
    search_help_text = _(
        "The whole key as the client sent it, a request id, a scope, or the first 8 or more hexadecimal digits of a "
        "digest. Where keys are not kept, choose a scope first."
    )
    walked_by = "completed_at"
    change_form_template = "admin/idempotency/record.html"
    exported: ClassVar = (
        "digest",
        "operation",
        "scope",
        "status",
        "attempt",
        "response_status",
        "created_at",
        "completed_at",
        "expires_at",
        "duration",
        "request_id",
        "about",
        "outcome_hash",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Record]:
        """Leave bodies in the database until one is revealed."""
        return super().get_queryset(request).defer("response_body")

    def get_fieldsets(self, request: HttpRequest, obj: Record | None = None) -> Any:
        """Show the key to those who may see it."""
        key = "key" if self.may(request, "reveal_body") else "masked_key"
        return (
            (None, {"fields": ("operation", "scope_link", key, "digest_hex", "about_link", "request_id")}),
            (_("Progress"), {"fields": ("outcome", "attempt", "owner", "lease_expires_at", "steps_taken")}),
            (_("Request"), {"fields": ("fingerprint_hex", "recipe", "fingerprint_secret")}),
            (_("Outcome"), {"fields": ("response_status", "headers", "size", "outcome_hash_hex")}),
            (_("Times"), {"fields": ("created_at", "completed_at", "duration", "expires_at")}),
        )

    def get_urls(self) -> list[Any]:
        """Add the address of the purge preview."""
        view = self.admin_site.admin_view(self.purge_preview)
        return [path("purge/", view, name="idempotency_record_purge"), *super().get_urls()]

    def purge_preview(self, request: HttpRequest) -> HttpResponse:
        """Show what a purge would delete now."""
        if not may_see(request.user):
            raise PermissionDenied
        try:
            previews = purge_preview()
        except TookTooLong:
            return self.too_slow(request)
        context = {**self.admin_site.each_context(request), "title": _("What a purge would delete"), "opts": self.opts}
        return TemplateResponse(request, "admin/idempotency/purge.html", {**context, "previews": previews})

    def walk(self, changelist: DeskList) -> Walk:
        """Walk along the index that serves the filters: of scopes, of what waits, or of completions."""
        rows, scope = changelist.queryset, changelist.chosen("scope")
        if scope:
            return Walk(rows=rows, within=Q(scope=scope), field="id", is_narrowed=len(rows.query.where) > 1)
        if changelist.chosen("outcome") in OutcomeFilter.WAITING:
            return Walk(rows=rows, within=_WAITING, field="id", is_narrowed=True)
        return super().walk(changelist)

    def heads(self, changelist: DeskList) -> list[Record]:
        """Show what is not completed above the first page, whatever its age."""
        chosen = [changelist.chosen(name) for name in ("scope", "outcome", "response")]
        return [] if any(chosen) else self._waiting(changelist).page(None, self.list_per_page).rows

    def _waiting(self, changelist: DeskList) -> Walk:
        return Walk(rows=changelist.queryset.filter(_WAITING), within=_WAITING, field="id", is_narrowed=True)

    def find(self, changelist: DeskList, term: str) -> list[Record] | None:
        """Return the records that a key, a digest or a request id names, of any age, or else the newest of a scope."""
        rows = changelist.queryset
        ids = record_ids(rows.db, term, scope=changelist.chosen("scope"), operation=changelist.chosen("operation"))
        if not ids and is_scope(changelist.root_queryset, term):
            return Walk(rows=rows, within=Q(scope=term), field="id", is_narrowed=True).page(None, 200).rows
        return list(rows.filter(pk__in=ids).order_by("-pk"))

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Add what happened, and what can be decided."""
        record: Record = kwargs["obj"]
        context.update(timeline=timeline(record, self.alias), decisions=self.offered(request, record))
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("digest"))
    def short_digest(self, record: Record) -> str:
        """The digest as logs show it."""
        return short(record.digest)

    @admin.display(description=_("digest"))
    def digest_hex(self, record: Record) -> str:
        """The whole digest."""
        return bytes(record.digest).hex()

    @admin.display(description=_("outcome"))
    def outcome(self, record: Record) -> Any:
        """Where the operation stands, in the words of the filter."""
        now = timezone.now()
        if record.status == Record.Status.COMPLETED:
            return _("executed") if record.expires_at > now else _("expired")
        if record.lease_expires_at and record.lease_expires_at <= now:
            return _("stuck")
        return record.get_status_display()

    @admin.display(description=_("key"))
    def masked_key(self, record: Record) -> str:
        """The beginning of the key, for those who may not see it."""
        return masked(record.key)

    @admin.display(description=_("scope"))
    def scope_link(self, record: Record) -> str:
        """The scope, with a link to all that it has asked for."""
        address = reverse("admin:idempotency_record_changelist", current_app=self.admin_site.name)
        return format_html('<a href="{}?{}">{}</a>', address, urlencode({"scope": record.scope}), record.scope)

    @admin.display(description=_("about"))
    def about_link(self, record: Record) -> str:
        """What the view named, with a link to its page if the admin has one."""
        label, _colon, pk = record.about.partition(":")
        try:
            model = apps.get_model(label)
            address = reverse(
                f"admin:{model._meta.app_label}_{model._meta.model_name}_change",
                args=[quote(pk)],
                current_app=self.admin_site.name,
            )
        except (LookupError, ValueError, NoReverseMatch):
            return record.about
        return format_html('<a href="{}">{}</a>', address, record.about)

    @admin.display(description=_("steps"))
    def steps_taken(self, record: Record) -> str:
        """The outside calls, a line each, without their results."""
        return "\n".join(
            f"{step['name']}: {_('done') if step['is_done'] else _('begun')}" for step in record.steps or ()
        )

    @admin.display(description=_("fingerprint"))
    def fingerprint_hex(self, record: Record) -> str:
        """The keyed digest of the request."""
        return bytes(record.fingerprint).hex()

    @admin.display(description=_("recipe"))
    def recipe(self, record: Record) -> Any:
        """How the fingerprint was made, and of which parts."""
        return _(
            "Version %(version)s: HMAC-SHA-256 over method, API version, query, route with its arguments, media type "
            "and canonical body."
        ) % {"version": record.fingerprint_version}

    @admin.display(description=_("outcome hash"))
    def outcome_hash_hex(self, record: Record) -> str:
        """The SHA-256 of the outcome."""
        return bytes(record.outcome_hash or b"").hex()

    @admin.display(description=_("headers"))
    def headers(self, record: Record) -> str:
        """The headers that are replayed, a line each."""
        return "\n".join(f"{name}: {value}" for name, value in record.response_headers)

    @admin.display(description=_("size of the body"))
    def size(self, record: Record) -> str:
        """The length of the body, which the database tells without handing it over."""
        rows = Record.objects.using(self.alias).filter(pk=record.pk)
        length = rows.aggregate(length=Max(BodyLength("response_body")))["length"]
        return str(_("not kept")) if length is None else filesizeformat(length)
