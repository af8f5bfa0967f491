"""The form in a real browser: sent twice or sent again, it makes one charge and shows the same page."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from demo_project.browsers import FORM

if TYPE_CHECKING:
    from playwright.sync_api import Page

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

PATIENCE = 20.0
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which is not installed")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; while it runs, its event loop makes Django refuse what is synchronous, such as a test database."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    try:
        with playwright.sync_playwright() as started:
            browser = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=["--no-sandbox"])
            yield browser
            browser.close()
    finally:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def page(chromium, server, user_id) -> Iterator[Page]:
    """The form, opened by Alice and filled in."""
    context = chromium.new_context(base_url=server.url)
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    page.goto(FORM)
    page.fill("input[name=username]", "alice")
    page.fill("input[name=password]", "alice")
    page.click("button")
    fill(page, user_id)
    yield page
    context.close()


@pytest.fixture
def posts(page) -> list[str]:
    """The forms that the browser has sent."""
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data) if request.method == "POST" else None)
    return sent


def fill(page: Page, user_id: str) -> None:
    page.fill("input[name=user_id]", user_id)
    page.fill("input[name=amount_cents]", "1000")


def shown(page: Page) -> str:
    """Return the id on the page of a charge, once it is there."""
    return page.locator("#charge").inner_text()


@pytest.fixture
def answers(page) -> list[Any]:
    """What the server answers to each form; even one that the browser gives up, for a second click, arrives there."""
    got: list[Any] = []

    def deliver(route: Any) -> None:
        got.append(route.fetch(headers={**route.request.headers, "X-Demo-Fault": "sleep:0.5"}, max_redirects=0))
        with suppress(playwright.Error):  # given up
            route.fulfill(response=got[-1])

    page.route("**" + FORM, deliver)
    return got


def wait_until(page: Page, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        page.wait_for_timeout(10)


def test_a_double_click_makes_one_charge(page, posts, answers, rows, user_id):
    button = page.locator("button").bounding_box()
    for number in (1, 2):
        page.mouse.click(button["x"] + 5, button["y"] + 5)  # unlike a locator's, it does not wait for the answer
        wait_until(page, lambda: len(posts) == number)  # noqa: B023 - called at once
    charge = shown(page)
    wait_until(page, lambda: len(answers) == 2)
    assert posts[0] == posts[1]
    assert [answer.headers["location"] for answer in answers] == [f"/charges/{charge}/"] * 2
    assert sorted(answer.headers.get("idempotent-replayed", "") for answer in answers) == ["", "true"]
    assert rows("demo_charge", user_id) == [charge]
    assert len(rows("idempotency_outboxevent", user_id)) == 1


def test_reloading_the_page_that_it_answers_writes_nothing(page, posts, rows, user_id):
    page.click("button")
    first = shown(page)
    page.reload()
    assert shown(page) == first
    assert len(posts) == 1
    assert rows("demo_charge", user_id) == [first]


def test_reloading_a_post_whose_answer_was_lost_shows_its_charge(page, posts, rows, user_id):
    lost = lose_answers(page)
    with page.expect_event("requestfailed"):
        page.click("button")
    written = rows("demo_charge", user_id)
    assert (len(lost), len(written)) == (1, 1)
    page.unroute("**" + FORM)
    page.reload()
    assert shown(page) == written[0]
    assert len(posts) == 2
    assert posts[0] == posts[1]
    assert rows("demo_charge", user_id) == written


def lose_answers(page: Page) -> list[str]:
    """Let each request arrive, and close the connection in place of its answer."""
    lost: list[str] = []

    def lose(route: Any) -> None:
        route.fetch(max_redirects=0)
        lost.append(route.request.url)
        route.abort("connectionclosed")

    page.route("**" + FORM, lose)
    return lost
