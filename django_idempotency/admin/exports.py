"""The filtered list as a file: streamed, limited, without bodies and keys, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.http import (
    HttpRequest,
    HttpResponseBadRequest,
    HttpResponseNotAllowed,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils import timezone

from django_idempotency.admin.desk import Desk
from django_idempotency.admin.limits import TookTooLong, limited
from django_idempotency.signals import decision_made

if TYPE_CHECKING:
    from django_idempotency.admin.lists import DeskList

    _Desk = Desk
else:
    _Desk = object

_CHUNK = 1000
_FORMATS = {"csv": "text/csv; charset=utf-8", "ndjson": "application/x-ndjson"}
# What a spreadsheet takes for a formula; some skip what stands before it.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


class Exports(_Desk):
    """The address of the export. ``exported`` names the fields, ``export_limit`` how many rows a file has at most."""

    exported: ClassVar[tuple[str, ...]]
    export_limit = 100_000

    def get_urls(self) -> list[Any]:
        """Add the address."""
        view = self.admin_site.admin_view(self.export)
        name = f"{self.opts.app_label}_{self.opts.model_name}_export"
        return [path("export/", view, name=name), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Offer the export to those who may."""
        context = {"may_export": self.may(request, "export_record"), "export_limit": self.export_limit}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """Send the list that the query string describes (POST)."""
        if not (self.has_view_permission(request) and self.may(request, "export_record")):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        file_format = request.POST.get("format", "")
        try:
            with limited(self.alias):
                changelist: Any = self.get_changelist_instance(request)
                if file_format not in _FORMATS:
                    raise IncorrectLookupParameters
                self._tell(request, file_format)
        except IncorrectLookupParameters:
            return HttpResponseBadRequest()
        except TookTooLong:
            return self.too_slow(request)
        rows = islice(_rows(changelist), self.export_limit)
        name = f"{self.opts.model_name}s-{timezone.now():%Y%m%dT%H%M%SZ}.{file_format}"
        return StreamingHttpResponse(
            (_csv if file_format == "csv" else _ndjson)(self.exported, rows),
            content_type=_FORMATS[file_format],
            headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
        )

    def _tell(self, request: HttpRequest, file_format: str) -> None:
        from django_idempotency.admin.actions import actor

        filters = {name: value for name, value in request.GET.items() if name != "q"}
        decision_made.send(
            type(self),
            using=self.alias,
            layer="http",
            action="exported",
            operation=self.opts.label_lower,
            actor=actor(request),
            reason=json.dumps({"format": file_format, "filters": filters}),
        )


def _rows(changelist: DeskList) -> Iterator[Any]:
    yield from changelist.heads
    if changelist.walk is None:
        yield from changelist.page.rows
        return
    page = changelist.walk.page(None, _CHUNK)
    yield from page.rows
    while page.older:
        page = changelist.walk.page(page.older, _CHUNK)
        yield from page.rows


class _Line:
    """What csv writes to: it hands each line on."""

    def write(self, line: str) -> str:
        """Return the line."""
        return line


def _csv(fields: tuple[str, ...], rows: Iterator[Any]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(fields)
    for row in rows:
        yield writer.writerow([harmless(_value(row, field)) for field in fields])


def _ndjson(fields: tuple[str, ...], rows: Iterator[Any]) -> Iterator[str]:
    for row in rows:
        yield json.dumps({field: _value(row, field) for field in fields}, ensure_ascii=False) + "\n"


def _value(row: Any, field: str) -> Any:
    value = getattr(row, field)
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return value.isoformat() if isinstance(value, datetime) else value


def harmless(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value
