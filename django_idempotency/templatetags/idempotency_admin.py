"""``{% idempotency_dashboard %}``: the figures above the application's index of any admin site."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils import formats
from django.utils.translation import gettext as _

from django_idempotency.admin import dashboard
from django_idempotency.admin.filters import DEFAULT_WINDOW, WINDOWS
from django_idempotency.admin.limits import TookTooLong

register = template.Library()


@register.inclusion_tag("admin/idempotency/dashboard.html", takes_context=True)
def idempotency_dashboard(context: Any) -> dict[str, Any]:
    """Render the figures for whoever may see them."""
    request = context.request
    if not dashboard.may_see(request.user):
        return {}
    asked = request.GET.get("window", DEFAULT_WINDOW)
    window = asked if asked in WINDOWS else DEFAULT_WINDOW
    shared = {"request": request, "may_see": True, "window": window, "windows": _windows()}
    try:
        return {**shared, "board": dashboard.read(window)}
    except TookTooLong:
        return shared


def _windows() -> list[tuple[str, Any]]:
    return [(name, label) for name, (label, _length) in WINDOWS.items() if name != "1h"]


@register.filter
def grouped(number: float | None) -> str:
    """Show a number with the separators of the language."""
    return "" if number is None else formats.number_format(number, force_grouping=True)


@register.filter
def plain(number: float) -> str:
    """Show a number as SVG wants it, whatever the language."""
    return f"{number:g}"


@register.filter
def milliseconds(seconds: float | None) -> str:
    """Show seconds as milliseconds."""
    return "" if seconds is None else f"{formats.number_format(round(1000 * seconds, 1))} ms"


@register.filter
def bound(limit: float | None) -> str:
    """Show the upper bound of a class of durations, in milliseconds."""
    if limit is None:
        return "–"
    return _("longer than a minute") if limit == float("inf") else f"≤ {formats.number_format(f'{limit:g}')} ms"
