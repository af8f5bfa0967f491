"""The list of a desk: one page along an index, found by exact search or narrowed down by fixed filters."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from django_idempotency.admin.walks import COUNTED, DEPTH, Cursor, Page, Walk, WrongCursor, estimate

#: The place after which a page begins.
AFTER_VAR = "after"


class DeskList(ChangeList):
    """A page of rows, newest first. ``page`` is what is shown, ``heads`` are rows above it that wait for somebody."""

    depth = DEPTH
    page: Page
    after: Cursor | None
    heads: list[Any]
    result_count: Any

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        """Return all parameters but those that say where the page begins."""
        lookups = dict(super().get_filters_params(params))
        lookups.pop(AFTER_VAR, None)
        return lookups

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        """Return the address of another list, which begins at the newest row."""
        return str(super().get_query_string({AFTER_VAR: None, **(new_params or {})}, remove))

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Leave the order to the walk."""
        return []

    def get_ordering_field_columns(self) -> dict[int, Any]:
        """Sort by no column: an index serves one order."""
        return {}

    def chosen(self, parameter: str) -> str:
        """Return the value of a filter."""
        specs: Any = self.filter_specs
        return next((str(spec.value() or "") for spec in specs if spec.parameter_name == parameter), "")

    def get_results(self, request: HttpRequest) -> None:
        """Look the page up."""
        desk: Any = self.model_admin
        self.walk: Walk | None = None
        self.after = None
        self.heads = []
        found = desk.find(self, self.query.strip()) if self.query.strip() else None
        if found is None:
            self.walk = desk.walk(self)
            self.after = self._after(request, self.walk.field)
            self.page = self.walk.page(self.after, self.list_per_page)
            self.heads = [] if self.after else desk.heads(self)
        else:
            self.page = Page(rows=found)
        self.result_list = [*self.heads, *self.page.rows]
        self.result_count = len(self.result_list)
        self.full_result_count = self.result_count  # else a search would tell how many it has found of how many
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = False
        self.paginator = None
        self.total = self._total()

    def _after(self, request: HttpRequest, field: str) -> Cursor | None:
        if not (text := request.GET.get(AFTER_VAR)):
            return None
        try:
            return Cursor.read(text, field)
        except WrongCursor as error:
            raise IncorrectLookupParameters from error

    def _total(self) -> tuple[str, int] | None:
        """Return how many there are, and whether that is ``exact``, ``more`` or ``about``; None where nobody counts."""
        if self.walk is None:
            return "exact", self.result_count
        if self.walk.is_narrowed or self.after:
            return None
        desk: Any = self.model_admin
        guess = estimate(self.model, self.queryset.db) if desk.walks_all(self) else None
        if guess is not None:
            return "about", guess
        count = self.walk.count() + len(self.heads)
        return ("more", COUNTED) if count > COUNTED else ("exact", count)

    @property
    def older_query_string(self) -> str:
        """The address of the rows that follow, if there are any."""
        return self.get_query_string({AFTER_VAR: str(self.page.older)}) if self.page.older else ""
