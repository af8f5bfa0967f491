"""Lists of smaller tables, as Django shows them: read, never edited, and counted no further than a person pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils.functional import cached_property

if TYPE_CHECKING:
    _Paginator = Paginator[Any]
else:
    _Paginator = Paginator

_COUNTED = 10_000


class CappedPaginator(_Paginator):
    """Counts no further than a person pages: a full count of a large table would cost more than the page."""

    @cached_property
    def count(self) -> int:
        """The number of rows, 10 000 at most."""
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[:_COUNTED].count())


class Table:
    """A page of a ModelAdmin on which nobody can write."""

    list_per_page: ClassVar = 50
    list_max_show_all: ClassVar = 0
    show_full_result_count: ClassVar = False
    show_facets: ClassVar = admin.ShowFacets.NEVER
    paginator: ClassVar[type] = CappedPaginator
    actions: Any = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nothing is entered by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits what happened."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing vanishes but by command: a record that did would let its operation run again."""
        return False
