"""What a person's browser does, for the scenarios: it keeps cookies, and sends a form as its page has it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser

import httpx

from demo_project.faults import HEADER as FAULT_HEADER
from demo_project.results import Exchange

LOGIN = "/login/"
FORM = "/charges/new/"
_SHOWN_ID = re.compile(r'<code id="charge">(ch_[0-9a-f]{24})</code>')


@dataclass(frozen=True, slots=True)
class Form:
    """A page's form, filled in. Its hidden fields came with the page, so they are the same however often it is sent."""

    values: dict[str, str]

    @property
    def key(self) -> str:
        """The operation that the page stands for."""
        return json.dumps(self.values, sort_keys=True)


class Browser:
    """One session. A response that redirects is followed to the page that it ends at."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def log_in(self, name: str) -> None:
        """Log in at the login page."""
        form = self.open(LOGIN, username=name, password=name)
        self._http.post(LOGIN, data=form.values, follow_redirects=True).raise_for_status()

    def open(self, page: str, **values: str) -> Form:
        """Open a page and fill its form in."""
        hidden = _HiddenFields()
        hidden.feed(self._http.get(page).raise_for_status().text)
        return Form({**hidden.values, **values})

    def send(self, form: Form, *, fault: str = "") -> Exchange:
        """Send the form of a charge; the answer is the charge that the last page shows."""
        answer = self._http.post(FORM, data=form.values, headers={FAULT_HEADER: fault} if fault else {})
        page = self._http.get(answer.headers["Location"]) if answer.is_redirect else answer
        shown = _SHOWN_ID.search(page.text)
        return Exchange(
            key=form.key,
            status=page.status_code,
            is_replay=answer.headers.get("Idempotent-Replayed") == "true",
            body=json.dumps({"id": shown and shown[1]}).encode(),
        )


class _HiddenFields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a field."""
        given = dict(attrs)
        if tag == "input" and given.get("type") == "hidden":
            self.values[given.get("name") or ""] = given.get("value") or ""


@contextmanager
def browser(url: str) -> Iterator[Browser]:
    """Yield a browser of a site."""
    with httpx.Client(base_url=url, trust_env=False, verify=False, timeout=20) as http:
        yield Browser(http)
