"""Records in the admin: to be read, never to be edited."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from django_idempotency.models import Record

if TYPE_CHECKING:
    _Paginator = Paginator[Record]
    _ModelAdmin = admin.ModelAdmin[Record]
else:
    _Paginator, _ModelAdmin = Paginator, admin.ModelAdmin

_COUNTED = 10_000
_SHOWN_BODY = 64 * 1024


class CappedPaginator(_Paginator):
    """Counts no further than a person pages: a full count of a large table would cost more than the page."""

    @cached_property
    def count(self) -> int:
        """The number of rows, 10 000 at most."""
        return self.object_list.order_by().values("pk")[:_COUNTED].count()  # type: ignore[attr-defined, no-any-return]


@admin.register(Record)
class RecordAdmin(_ModelAdmin):
    """Who asked for what, and what came of it."""

    list_display = ("short_digest", "operation", "scope", "response_status", "created_at", "expires_at")
    list_display_links = ("short_digest",)
    search_fields = ("=key",)
    search_help_text = _("The whole key, as the client sent it.")
    ordering = ("-id",)
    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    paginator = CappedPaginator
    actions = None
    fieldsets: ClassVar = (
        (None, {"fields": ("operation", "scope", "key", "digest_hex", "status", "attempt")}),
        (_("Request"), {"fields": ("fingerprint_hex", "fingerprint_version", "fingerprint_secret")}),
        (_("Outcome"), {"fields": ("response_status", "headers", "body", "outcome_hash_hex")}),
        (_("Times"), {"fields": ("created_at", "completed_at", "duration", "expires_at")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Record]:
        """Leave bodies in the database until one is shown."""
        return super().get_queryset(request).defer("response_body")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Records come from requests alone."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Record | None = None) -> bool:
        """Nobody edits what happened."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Record | None = None) -> bool:
        """A record that vanished would let its operation run again; ``idempotency_purge`` removes expired ones."""
        return False

    @admin.display(description=_("digest"))
    def short_digest(self, record: Record) -> str:
        """The digest as logs show it."""
        return bytes(record.digest[:4]).hex()

    @admin.display(description=_("digest"))
    def digest_hex(self, record: Record) -> str:
        """The whole digest."""
        return bytes(record.digest).hex()

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
        content = bytes(record.response_body[:_SHOWN_BODY])
        try:
            text = json.dumps(json.loads(content), indent=2, ensure_ascii=False)
        except ValueError:
            text = content.decode("utf-8", "backslashreplace")
        return format_html("<pre>{}</pre>", text)
