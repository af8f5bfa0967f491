"""Browser forms: a second click and a reload show what the first has brought."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpResponse
from django.template import engines
from django.test import Client
from django.urls import path
from django.views.generic.edit import CreateView

from django_idempotency import Policy
from django_idempotency.http.forms import IdempotentFormMixin
from tests.callers import Caller, new_key
from tests.campaigns.sessions import PATIENCE, Gate, atomic_requests, other_sessions
from tests.models import Payment
from tests.records import rows

pytestmark = pytest.mark.urls(__name__)

PAGE = "{% load idempotency %}<form>{% csrf_token %}{% idempotency_key_field %}{{ form }}</form>"
KEY = re.compile(r'<input type="hidden" name="idempotency_key" value="([0-9a-f-]{36})">')


class PaymentForm(LoginRequiredMixin, IdempotentFormMixin, CreateView):
    model = Payment
    fields = ("reference", "amount")
    success_url = "/done/{id}/"
    login_url = "/login/"
    gate: Any = None

    def render_to_response(self, context: Any, **options: Any) -> HttpResponse:
        return HttpResponse(engines["django"].from_string(PAGE).render(context, self.request), **options)

    def form_valid(self, form: Any) -> HttpResponse:
        if PaymentForm.gate:
            PaymentForm.gate()
        return super().form_valid(form)


class LeasedPaymentForm(PaymentForm):
    idempotency = Policy(form_field="idempotency_key", keep="success", claim="lease")


urlpatterns = [path("pay/", PaymentForm.as_view()), path("leased/", LeasedPaymentForm.as_view())]


@pytest.fixture
def browser(alice: Caller) -> Client:
    client = Client()
    client.force_login(alice.user)
    return client


def render(tag: str, **context: str) -> str:
    return engines["django"].from_string("{% load idempotency %}" + tag).render(context)


def test_each_rendering_has_a_key_of_its_own() -> None:
    first, second = (KEY.fullmatch(render("{% idempotency_key_field %}")) for _ in range(2))
    assert first
    assert second
    assert first[1] != second[1]


def test_the_field_may_have_another_name_which_is_escaped() -> None:
    shown = render("{% idempotency_key_field name %}", name='a"b')
    assert shown.startswith('<input type="hidden" name="a&quot;b" value="')


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("url", ["/pay/", "/leased/"])
def test_a_reload_shows_the_same_redirect(browser: Client, url: str, atomic: bool) -> None:
    with atomic_requests(atomic):
        page = browser.get(url)
        key = KEY.search(page.content.decode())
        assert key
        sent = {"idempotency_key": key[1], "reference": "rent", "amount": 3}
        first, again = (browser.post(url, sent) for _ in range(2))
    assert (first.status_code, again.status_code, first["Location"]) == (302, 302, again["Location"])
    assert (again["Idempotent-Replayed"], rows()) == ("true", (1, 1))


@pytest.mark.parametrize("url", ["/pay/", "/leased/"])
def test_an_invalid_form_is_not_kept_and_the_corrected_one_may_have_its_key(browser: Client, url: str) -> None:
    key = new_key()
    refused = browser.post(url, {"idempotency_key": key, "amount": "much"})
    assert (refused.status_code, rows()) == (422, (0, 0))
    shown = KEY.search(refused.content.decode())
    assert shown
    assert shown[1] != key
    corrected = browser.post(url, {"idempotency_key": key, "amount": 3, "reference": "rent"})
    assert (corrected.status_code, corrected.has_header("Idempotent-Replayed"), rows()) == (302, False, (1, 1))


def test_a_form_without_the_field_is_refused(browser: Client) -> None:
    refused = browser.post("/pay/", {"amount": 3, "reference": "rent"})
    assert (refused.status_code, refused.json()["code"], rows()) == (400, "missing-key", (0, 0))


def test_a_login_is_asked_for_before_the_key(browser: Client) -> None:
    sent = {"idempotency_key": new_key(), "amount": 3, "reference": "rent"}
    assert browser.post("/pay/", sent).status_code == 302
    browser.logout()
    assert browser.post("/pay/", sent)["Location"].startswith("/login/")
    assert rows() == (1, 1)


def test_a_second_click_waits_for_the_first(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, sent = Gate(), {"idempotency_key": new_key(), "amount": 3, "reference": "rent"}
    monkeypatch.setattr(PaymentForm, "gate", gate)
    other = Client()
    other.cookies = browser.cookies
    with other_sessions() as start:
        first = start(browser.post, "/pay/", sent)
        gate.wait_until_reached()
        second = start(other.post, "/pay/", sent)
        with pytest.raises(TimeoutError):
            second.result(0.3)
        gate.open()
        answers = [future.result(PATIENCE) for future in (first, second)]
    assert [answer.status_code for answer in answers] == [302, 302]
    assert answers[0]["Location"] == answers[1]["Location"]
    assert (answers[1]["Idempotent-Replayed"], rows()) == ("true", (1, 1))
