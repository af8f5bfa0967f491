"""What the pages share: they are read, never edited, and stay fast on large tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.db import router
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.filters import window_start
from django_idempotency.admin.limits import TookTooLong, limited
from django_idempotency.admin.lists import DeskList
from django_idempotency.admin.walks import Walk

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin


class Desk(_ModelAdmin):
    """A ModelAdmin whose rows nobody adds, changes or deletes.

    Override ``get_queryset`` to show each user the rows of their tenant: lists, pages, searches, decisions and exports
    all begin with it.
    """

    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    actions: Any = None
    change_list_template = "admin/idempotency/desk_list.html"
    #: The field along which the list is walked: the last column of an index.
    walked_by: ClassVar[str]

    class Media:
        css: ClassVar = {"all": ("idempotency/admin.css",)}

    @property
    def alias(self) -> str:
        """The database of the rows: the one they are written to, never a replica."""
        return router.db_for_write(self.model)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows that this user may see."""
        return super().get_queryset(request).using(self.alias)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[DeskList]:
        """Return the list that walks along an index."""
        return DeskList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, or say that it took too long."""
        try:
            with limited(self.alias):
                return super().changelist_view(request, extra_context)
        except TookTooLong:
            return self.too_slow(request)

    def too_slow(self, request: HttpRequest) -> TemplateResponse:
        """Say what to do about a page that took too long."""
        context = {**self.admin_site.each_context(request), "title": _("That took too long"), "opts": self.opts}
        return TemplateResponse(request, "admin/idempotency/too_slow.html", context, status=503)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Allow the filters of the list alone: any other look-up would tell by its matches what is not to be seen."""
        filters: Any = self.get_list_filter(request) if request else self.list_filter
        return lookup in {getattr(one, "parameter_name", None) for one in filters}

    def walk(self, changelist: DeskList) -> Walk:
        """Return the rows that the list shows, as an index finds them."""
        start = window_start(changelist.chosen("window"))
        within = Q(**{f"{self.walked_by}__gte": start}) if start else Q(**{f"{self.walked_by}__isnull": False})
        return Walk(
            rows=changelist.queryset,
            within=within,
            field=self.walked_by,
            is_narrowed=bool(changelist.queryset.query.where),
        )

    def walks_all(self, changelist: DeskList) -> bool:
        """Tell whether the list shows the whole table, so that its size can be told without counting."""
        return changelist.chosen("window") == "all" and not changelist.queryset.query.where

    def heads(self, changelist: DeskList) -> list[Any]:
        """Return rows to be shown above the first page."""
        return []

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Leave the search to ``find``."""
        return queryset, False

    def find(self, changelist: DeskList, term: str) -> list[Any] | None:
        """Return the rows that a search names exactly, None where the list is walked instead."""
        return None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nothing is entered by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits what happened."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing vanishes but by command: a record that did would let its operation run again."""
        return False

    def may(self, request: HttpRequest, permission: str) -> bool:
        """Tell whether the user has a permission of this application."""
        user: Any = request.user
        return bool(user.has_perm(f"{self.opts.app_label}.{permission}"))


def short(digest: bytes | memoryview) -> str:
    """Return a digest as logs show it."""
    return bytes(digest[:4]).hex()


def masked(key: str) -> str:
    """Return the first four characters of a long key: enough to tell two apart, too little to name one."""
    return f"{key[:4]}…" if len(key) >= 16 else "…" if key else ""
