"""The published side of the protocol."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import format_html

from django_idempotency.http.problems import every_problem


def problem(request: HttpRequest, code: str) -> HttpResponse:
    """Explain one problem type to whoever follows its ``type`` address."""
    found = next((problem for problem in every_problem() if problem.code == code), None)
    if found is None:
        raise Http404
    page = format_html(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<h1>{title}</h1><p>HTTP {status}. {advice}</p><p>{retry}</p></html>",
        title=found.title,
        status=found.status,
        advice=found.advice,
        retry="The same request may be sent again." if found.retryable else "The same request will fail again.",
    )
    return HttpResponse(page)
