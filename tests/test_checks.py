"""System checks say what is misspelt or unsafe before the first request."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.test import override_settings
from django.urls import include, path
from rest_framework.authentication import TokenAuthentication
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView

from django_idempotency import Policy, checks
from django_idempotency.rest_framework import IdempotencyMixin
from tests.views import PaymentViewSet


class Anonymous(IdempotencyMixin, APIView):
    authentication_classes = ()


class Scoped(IdempotencyMixin, APIView):
    authentication_classes = ()
    idempotency = Policy(scope=lambda request: "a partner")


class OwnScope(IdempotencyMixin, APIView):
    authentication_classes = ()

    def get_idempotency_scope(self, request: Any) -> str:
        return "a partner"


class OptedOut(IdempotencyMixin, APIView):
    authentication_classes = ()
    idempotency = None


class LostStore(IdempotencyMixin, APIView):
    authentication_classes = (TokenAuthentication,)
    idempotency = Policy(store="elsewhere")


class LongWait(IdempotencyMixin, APIView):
    authentication_classes = (TokenAuthentication,)
    idempotency = Policy(wait=timedelta(hours=1), ttl=timedelta(minutes=1))


router = SimpleRouter()
router.register("payments", PaymentViewSet)
urlpatterns: list[Any] = []


class WriteElsewhere:
    def db_for_write(self, model: type, **hints: Any) -> str | None:
        return "elsewhere" if model.__name__ == "Payment" else None


def ids(messages: Iterable[CheckMessage]) -> list[str]:
    return [message.id or "" for message in messages]


@pytest.fixture(autouse=True)
def _urlconf(settings: Any) -> Iterable[None]:
    settings.ROOT_URLCONF = __name__
    yield
    urlpatterns.clear()


@pytest.fixture
def route() -> Any:
    def add(*views: Any) -> None:
        from django.urls import clear_url_caches

        urlpatterns[:] = [path(f"{number}/", view) for number, view in enumerate(views)]
        clear_url_caches()

    return add


def test_defaults_are_clean() -> None:
    assert checks.check_settings() == []


def test_an_unknown_setting_is_an_error_with_a_suggestion() -> None:
    with override_settings(IDEMPOTENCY_TLL=60):
        (message,) = checks.check_settings()
    assert message.id == "idempotency.E001"
    assert message.hint == "Did you mean IDEMPOTENCY_TTL?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TTL", 0),
        ("TTL", "24h"),
        ("TTL", timedelta(days=-1)),
        ("TTL", True),
        ("MAX_WAIT", -1),
        ("MAX_WAITERS", -1),
        ("MAX_BODY", "1 MB"),
        ("HEADERS", ()),
        ("HEADERS", "Idempotency-Key"),
        ("SECRETS", "a secret"),
        ("STORE_KEYS", "hash"),
        ("UNENROLLED", "reject"),
        ("KEY_FORMAT", "guid"),
    ],
)
def test_a_wrong_value_is_an_error(name: str, value: Any) -> None:
    with override_settings(**{f"IDEMPOTENCY_{name}": value}):
        (message,) = checks.check_settings()
    assert message.id == "idempotency.E002"
    assert f"IDEMPOTENCY_{name}" in message.msg


@pytest.mark.parametrize(
    "store",
    [
        {"BACKEND": "django_idempotency.stores.nowhere.Store"},
        {"OPTIONS": {}},
        {"BACKEND": "django_idempotency.stores.database.DatabaseStore", "OPTIONS": {"alias": "default"}},
    ],
)
def test_a_store_that_cannot_be_made_is_an_error(store: dict[str, Any]) -> None:
    with override_settings(IDEMPOTENCY_STORES={"default": store}):
        assert ids(checks.check_stores()) == ["idempotency.E003"]


def test_a_store_on_an_unknown_database_is_an_error() -> None:
    store = {"BACKEND": "django_idempotency.stores.database.DatabaseStore", "OPTIONS": {"using": "nowhere"}}
    with override_settings(IDEMPOTENCY_STORES={"default": store}):
        assert ids(checks.check_stores()) == ["idempotency.E010"]


def test_the_configured_store_is_clean() -> None:
    assert checks.check_stores() == []


def test_a_view_without_identity_is_an_error(route: Any) -> None:
    route(Anonymous.as_view())
    assert ids(checks.check_views()) == ["idempotency.E020"]


def test_views_with_an_identity_or_without_a_policy_are_clean(route: Any) -> None:
    route(Scoped.as_view(), OwnScope.as_view(), OptedOut.as_view(), include(router.urls))
    assert checks.check_views() == []


def test_as_view_arguments_count(route: Any) -> None:
    route(PaymentViewSet.as_view({"post": "create"}, authentication_classes=()))
    assert ids(checks.check_views()) == ["idempotency.E020"]


def test_an_unknown_store_is_an_error(route: Any) -> None:
    route(LostStore.as_view())
    assert ids(checks.check_views()) == ["idempotency.E021"]


def test_waiting_longer_than_the_retention_is_an_error(route: Any) -> None:
    route(LongWait.as_view())
    assert ids(checks.check_views()) == ["idempotency.E023"]


def test_a_view_that_writes_elsewhere_is_warned_of(route: Any) -> None:
    route(include(router.urls))
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.WriteElsewhere"]):
        assert ids(checks.check_views()) == ["idempotency.W022"]


@pytest.mark.sqlite
def test_deferred_transactions_of_sqlite_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connection

    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "transaction_mode", None)
    assert ids(checks.check_stores()) == ["idempotency.W013"]
