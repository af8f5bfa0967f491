"""System checks say what is misspelt or unsafe before the first request."""

from __future__ import annotations

import sys
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

from django_idempotency import Policy, checks, conf, idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from tests.conformance.callers_plain import MIDDLEWARE
from tests.conformance.views_plain import AttributeView, DecoratedView, bare, decorated, drf
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
        ("METRICS_MAX_OPERATIONS", -1),
        ("MAX_BODY", "1 MB"),
        ("HEADERS", ()),
        ("HEADERS", "Idempotency-Key"),
        ("SECRETS", "a secret"),
        ("STORE_KEYS", "hash"),
        ("UNENROLLED", "reject"),
        ("ENROLLED", ["payments:*"]),
        ("ENROLLED", {"payments:*": {"required": True}}),
        ("ENROLLED", {1: Policy()}),
        ("KEY_FORMAT", "guid"),
        ("AUDIT_TTL", 0),
        ("AUDIT_TTL", "a week"),
        ("CLEANUP_INTERVAL", timedelta(0)),
        ("ENCRYPTION_KEYS", "a single text"),
        ("CIPHER", None),
        ("OUTBOX_TTL", 0),
        ("INBOX_TTL", "14d"),
        ("BROKER_RETENTION", 0),
        ("BROKERS", []),
        ("MAX_EVENT", 0),
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


class Encrypted(IdempotencyMixin, APIView):
    authentication_classes = (TokenAuthentication,)
    idempotency = Policy(body="encrypted")


def test_encryption_without_its_package_is_an_error(route: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    route(Encrypted.as_view())
    assert checks.check_views() == []
    monkeypatch.setitem(sys.modules, "django_idempotency.contrib.cryptography", None)
    conf._cipher.cache_clear()
    try:
        (message,) = checks.check_views()
    finally:
        conf._cipher.cache_clear()
    assert (message.id, message.hint) == ("idempotency.E040", "pip install django-idempotency[encryption]")
    assert "Encrypted" in message.msg


@pytest.mark.parametrize("cipher", ["nowhere.at.all", "django_idempotency.conf.no_such_class"])
def test_a_cipher_that_cannot_be_had_is_an_error_where_it_is_asked_for(route: Any, cipher: str) -> None:
    with override_settings(IDEMPOTENCY_CIPHER=cipher):
        assert checks.check_views() == []
        route(Encrypted.as_view())
        assert ids(checks.check_views()) == ["idempotency.E040"]


class Open(IdempotencyMixin, APIView):
    authentication_classes = (TokenAuthentication,)
    idempotency = Policy(on_outage="run")


def test_a_view_that_is_to_run_without_the_database_of_its_effects_is_an_error(route: Any) -> None:
    route(Open.as_view())
    assert ids(checks.check_views()) == ["idempotency.E028"]
    redis_alone = {"default": {"BACKEND": "django_idempotency.stores.redis.RedisStore"}}
    with override_settings(IDEMPOTENCY_STORES=redis_alone):
        assert "idempotency.E028" not in ids(checks.check_views())


def test_a_view_that_writes_elsewhere_is_warned_of(route: Any) -> None:
    route(include(router.urls))
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.WriteElsewhere"]):
        assert ids(checks.check_views()) == ["idempotency.W022"]


@pytest.mark.sqlite
def test_deferred_transactions_of_sqlite_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connection

    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "transaction_mode", None)
    assert ids(checks.check_stores()) == ["idempotency.W013"]


@pytest.fixture
def middleware(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]


def test_plain_views_with_an_identity_are_clean(route: Any, middleware: None) -> None:
    route(decorated, DecoratedView.as_view(), AttributeView.as_view(), bare)
    with override_settings(IDEMPOTENCY_ENROLLED={"*.bare": Policy()}):
        assert checks.check_views() == []


@pytest.mark.parametrize(
    ("policy", "wrong"),
    [
        (Policy(store="elsewhere"), "idempotency.E021"),
        (Policy(wait=timedelta(hours=1), ttl=timedelta(minutes=1)), "idempotency.E023"),
    ],
)
@pytest.mark.parametrize("by_decorator", [False, True])
def test_what_a_policy_says_of_a_plain_view_is_checked(
    route: Any, middleware: None, policy: Policy, wrong: str, by_decorator: bool
) -> None:
    route(idempotent(policy)(bare) if by_decorator else bare)
    with override_settings(IDEMPOTENCY_ENROLLED={} if by_decorator else {"*": policy}):
        assert ids(checks.check_views()) == [wrong]


@pytest.mark.parametrize(("policy", "wrong"), [(Policy(), ["idempotency.E020"]), (Scoped.idempotency, [])])
def test_a_plain_view_without_identity_is_an_error(route: Any, settings: Any, policy: Policy, wrong: list[str]) -> None:
    settings.MIDDLEWARE = []
    route(idempotent(policy)(bare))
    assert ids(checks.check_views()) == wrong


def test_a_view_without_a_policy_needs_no_identity(route: Any, settings: Any) -> None:
    settings.MIDDLEWARE = []
    route(bare, AttributeView.as_view())
    assert checks.check_views() == []


@pytest.mark.parametrize(
    "escaped",
    [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
)
def test_a_middleware_that_enrolled_views_would_escape_is_an_error(escaped: str, settings: Any) -> None:
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware", MIDDLEWARE, escaped]
    (message,) = checks.check_views()
    assert (message.id, escaped.rpartition(".")[2] in message.msg) == ("idempotency.E024", True)
    settings.MIDDLEWARE = [escaped, MIDDLEWARE, "django.middleware.common.CommonMiddleware", "nowhere.Middleware"]
    assert checks.check_views() == []


@pytest.mark.parametrize(("policy", "wrong"), [(Policy(), ["idempotency.E025"]), (Scoped.idempotency, [])])
def test_a_view_that_authenticates_itself_needs_a_scope(
    route: Any, middleware: None, policy: Policy, wrong: list[str]
) -> None:
    route(drf)
    with override_settings(IDEMPOTENCY_ENROLLED={"*": policy}):
        assert ids(checks.check_views()) == wrong


def test_a_setting_that_enrols_nothing_is_an_error(route: Any) -> None:
    route(bare)
    with override_settings(IDEMPOTENCY_ENROLLED={"*": Policy()}):
        assert ids(checks.check_views()) == ["idempotency.E026"]


def test_a_pattern_that_matches_no_view_is_warned_of(route: Any, middleware: None) -> None:
    route(bare)
    with override_settings(IDEMPOTENCY_ENROLLED={"*.bare": Policy(), "shop:*": Policy()}):
        assert ids(checks.check_views()) == ["idempotency.W027"]


def test_a_pattern_matches_the_names_in_a_namespace(route: Any, middleware: None) -> None:
    route(include(([path("pay/", bare, name="pay")], "shop")))
    with override_settings(IDEMPOTENCY_ENROLLED={"shop:pay": Policy()}):
        assert checks.check_views() == []


def test_a_module_of_contrib_is_installed_by_its_app_config() -> None:
    with override_settings(INSTALLED_APPS=["django_idempotency", "django_idempotency.contrib.opentelemetry"]):
        (found,) = checks.check_contrib()
    assert found.id == "idempotency.E090"
    assert "django_idempotency.contrib.opentelemetry" in found.msg
    assert checks.check_contrib() == []
