"""Records in the admin: to be read, never to be edited."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.desk import Desk, short
from django_idempotency.models import Record

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Record]
else:
    _ModelAdmin = admin.ModelAdmin

_SHOWN_BODY = 64 * 1024


@admin.register(Record)
class RecordAdmin(Desk, _ModelAdmin):
    """Who asked for what, and what came of it."""

    list_display = (
        "short_digest",
        "operation",
        "scope",
        "status",
        "attempt",
        "response_status",
        "created_at",
        "expires_at",
    )
    list_display_links = ("short_digest",)
    list_filter = ("status",)
    search_fields = ("=key",)
    search_help_text = _("The whole key, as the client sent it.")
    ordering = ("-id",)
    fieldsets: ClassVar = (
        (None, {"fields": ("operation", "scope", "key", "digest_hex")}),
        (_("Progress"), {"fields": ("status", "attempt", "lease_expires_at", "steps_taken")}),
        (_("Request"), {"fields": ("fingerprint_hex", "fingerprint_version", "fingerprint_secret")}),
        (_("Outcome"), {"fields": ("response_status", "headers", "body", "outcome_hash_hex")}),
        (_("Times"), {"fields": ("created_at", "completed_at", "duration", "expires_at")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Record]:
        """Leave bodies in the database until one is shown."""
        return super().get_queryset(request).defer("response_body")

    @admin.display(description=_("digest"))
    def short_digest(self, record: Record) -> str:
        """The digest as logs show it."""
        return short(record.digest)

    @admin.display(description=_("digest"))
    def digest_hex(self, record: Record) -> str:
        """The whole digest."""
        return bytes(record.digest).hex()

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

    @admin.display(description=_("outcome hash"))
    def outcome_hash_hex(self, record: Record) -> str:
        """The SHA-256 of the outcome."""
        return bytes(record.outcome_hash or b"").hex()

    @admin.display(description=_("headers"))
    def headers(self, record: Record) -> str:
        """The headers that are replayed, a line each."""
        return "\n".join(f"{name}: {value}" for name, value in record.response_headers)

    @admin.display(description=_("body"))
    def body(self, record: Record) -> str:
        """The beginning of the body as text, never as markup."""
        if record.response_body is None:
            return str(_("Not kept: the response streamed or was too long."))
        if record.sealed_with:
            return str(_("Encrypted, together with the headers."))
        content = bytes(record.response_body[:_SHOWN_BODY])
        try:
            text = json.dumps(json.loads(content), indent=2, ensure_ascii=False)
        except ValueError:
            text = content.decode("utf-8", "backslashreplace")
        return format_html("<pre>{}</pre>", text)
