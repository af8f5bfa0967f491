"""A real browser before a real server, under a strict policy, that tells what it did not like."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.test import override_settings
from pytest_django.live_server_helper import LiveServer

# Set before anything of a page runs; the policy does not hold for it.
_WATCH = """
window.complaints = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.complaints.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


def chromium_path() -> str | None:
    """Return where the browser is, None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def serving() -> Iterator[str]:
    """Serve the test database, with languages and a strict policy; yield the address."""
    middleware = [
        "tests.admin.policies.strict_policy",
        *settings.MIDDLEWARE,
        "django.middleware.locale.LocaleMiddleware",
    ]
    with override_settings(MIDDLEWARE=middleware):
        server = LiveServer("127.0.0.1")
        try:
            yield server.url
        finally:
            server.stop()


@contextmanager
def browsing() -> Iterator[Any]:
    """Yield a browser."""
    from playwright.sync_api import sync_playwright

    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # playwright runs a loop in this thread, in which we use the ORM
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium_path(), headless=True, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
            try:
                yield browser
            finally:
                browser.close()
    finally:
        if before is None:
            os.environ.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)
        else:
            os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


class Visitor:
    """Somebody with a window, logged in. ``complaints`` are violations, errors and dialogs, of all pages so far."""

    def __init__(self, browser: Any, address: str, name: str, **options: Any) -> None:
        self.address = address
        self.complaints: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.add_init_script(_WATCH)
        self.context.set_default_timeout(20_000)
        self.page = self.context.new_page()
        self.page.on("dialog", self._dialog)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.visit("/admin/login/?next=/admin/idempotency/")
        self.page.fill("#id_username", name)
        self.page.fill("#id_password", name)
        self.page.click("[type=submit]")

    def visit(self, path: str) -> None:
        """Open an address of the server, and note what the browser does not like."""
        self.page.goto(self.address + path)
        self.look()

    def look(self) -> None:
        """Note what the browser does not like about the page that is open."""
        self.page.wait_for_load_state("load")
        self.complaints += self.page.evaluate("window.complaints.splice(0)")
        if self.page.evaluate("'struck' in window"):
            self.complaints.append("a script of a payload has run")

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: Any) -> None:
        is_icon = message.location.get("url", "").endswith("/favicon.ico")  # which browsers ask for unasked
        if message.type in ("error", "warning") and not is_icon:
            self.complaints.append(f"{message.type}: {message.text}")
