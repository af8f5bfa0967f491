"""A12: the fit with Django REST framework."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.http import HttpResponseBase
from django.test import Client
from rest_framework import generics, viewsets
from rest_framework.authentication import TokenAuthentication
from rest_framework.decorators import api_view
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from django_idempotency import Policy
from django_idempotency.models import Record
from django_idempotency.rest_framework import IdempotencyMixin, idempotent
from tests.callers import Caller, new_key
from tests.conformance.views_responses import NegotiatingView, NotBanned, Script, pay, scripted
from tests.models import Payment

pytestmark = pytest.mark.urls("tests.conformance.urls_responses")

KINDS = {
    "APIView": "/required/",
    "GenericAPIView": "/generic/",
    "ViewSet": "/set/",
    "ModelViewSet": "/model/",
    "action": "/with-an-action/pay/",
    "api_view": "/function/",
}


@pytest.mark.parametrize("path", KINDS.values(), ids=KINDS.keys())
def test_a12_133_every_kind_of_view_runs_once_for_a_key(alice: Caller, path: str) -> None:
    key = new_key()
    with scripted():
        first, again = (alice.post(path, {"amount": 3}, key=key) for _ in range(2))
        mismatch = alice.post(path, {"amount": 4}, key=key)
        other = alice.post(path, {"amount": 3}, key=new_key())
    assert [response.status_code for response in (first, again, mismatch, other)] == [201, 201, 422, 201]
    assert again.content == first.content
    assert ("Idempotent-Replayed" in first, again["Idempotent-Replayed"]) == (False, "true")
    assert Payment.objects.count() == 2


@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
def test_a12_133_the_other_methods_of_a_viewset_are_enrolled_as_its_policy_says(alice: Caller, method: str) -> None:
    payment = Payment.objects.create(amount=1)
    key = new_key()
    first, again = (alice.send(method, f"/model/{payment.pk}/", {"amount": 2}, key=key) for _ in range(2))
    assert first.status_code == (204 if method == "DELETE" else 200)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again["Idempotent-Replayed"] == "true"


def test_a12_133_an_action_has_a_policy_of_its_own(alice: Caller) -> None:
    key = new_key()
    missing = alice.post("/with-an-action/pay/")
    ignored = [alice.post("/with-an-action/", {"amount": 3}, key=key) for _ in range(2)]
    assert (missing.status_code, missing.json()["code"]) == (400, "missing-key")
    assert [(response.status_code, response["Idempotency-Status"]) for response in ignored] == [(201, "ignored")] * 2
    assert Payment.objects.count() == 2


def test_a12_133_a_function_keeps_its_name_and_its_own_settings(alice: Caller) -> None:
    assert (pay.cls.__name__, pay.__module__) == ("pay", "tests.conformance.views_responses")
    assert pay.cls.authentication_classes == [TokenAuthentication]
    assert Client().post("/function/", headers={"Idempotency-Key": new_key()}).status_code == 401
    assert alice.post("/function/").json()["code"] == "missing-key"
    assert alice.send("GET", "/function/").status_code == 405


def test_a12_133_what_a_base_class_does_around_its_requests_is_done_for_first_and_replayed_ones(alice: Caller) -> None:
    key = new_key()
    with scripted() as script:
        answers = [alice.post("/stamped/"), *(alice.post("/stamped/", key=key) for _ in range(2))]
    assert script.calls == 2
    assert [(answer["X-Stamp"], answer["X-Finalized"]) for answer in answers] == [("stamped", "1")] * 3
    assert answers[2].content == answers[1].content


def test_a12_133_a_base_class_sees_the_error_of_a_view(alice: Caller) -> None:
    for key in (None, new_key()):
        with scripted(raising(ArithmeticError())):
            assert alice.post("/stamped/", key=key).status_code == 599
    assert Record.objects.count() == 0


@pytest.mark.parametrize("base", [APIView, generics.CreateAPIView, viewsets.ViewSet, viewsets.ModelViewSet])
def test_a12_133_the_mixin_behind_the_view_class_fails_when_the_class_is_made(base: type) -> None:
    with pytest.raises(TypeError, match="Wrong: IdempotencyMixin must stand before the view class"):
        type("Wrong", (base, IdempotencyMixin), {})

    class Between(base):
        pass

    with pytest.raises(TypeError, match="must stand before"):
        type("Wrong", (Between, IdempotencyMixin), {})
    assert type("Right", (IdempotencyMixin, Between), {}).idempotency == Policy()


def test_a12_133_the_decorator_in_the_wrong_place_fails_at_once() -> None:
    def view(request: Request) -> Response:
        return Response()

    for wrong in (view, lambda request: None, APIView):
        with pytest.raises(TypeError, match="must stand above @api_view"):
            idempotent(required=True)(wrong)
    assert callable(idempotent(Policy(required=True))(api_view(["POST"])(view)))


def use_handler(settings: Any, handler: Callable[[Exception, dict[str, Any]], Response | None]) -> None:
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": handler}


def raising(error: Exception) -> Any:
    def ending(request: Request) -> HttpResponseBase:
        raise error

    return ending


def test_a12_134_a_custom_exception_handler_is_asked_once_and_its_answer_is_subject_to_the_policy(
    alice: Caller, settings: Any
) -> None:
    asked: list[tuple[type[Exception], str]] = []

    def handler(error: Exception, context: dict[str, Any]) -> Response | None:
        # As many do, this one handles what is not of the framework, and leaves the transaction alone.
        asked.append((type(error), context["request"].method))
        return Response({"wrapped": str(error)}, status=402) if isinstance(error, ArithmeticError) else None

    use_handler(settings, handler)
    for path, calls in (("/required/", 2), ("/raised/", 1)):
        key = new_key()
        with scripted(raising(ArithmeticError("too little"))) as script:
            first, again = (alice.post(path, key=key) for _ in range(2))
        assert (first.status_code, first.json()) == (402, {"wrapped": "too little"})
        assert (again.status_code, again.content) == (402, first.content)
        assert script.calls == calls
        assert asked == [(ArithmeticError, "POST")] * calls
        assert Payment.objects.count() == 0
        asked.clear()


def test_a12_134_what_a_custom_exception_handler_leaves_is_a_crash(alice: Caller, settings: Any) -> None:
    asked: list[Exception] = []
    use_handler(settings, lambda error, context: asked.append(error))
    key = new_key()
    with scripted(raising(NotFound())) as script:
        assert alice.post("/raised/", key=key).status_code == 500
    assert (len(asked), script.calls) == (1, 1)
    assert (Payment.objects.count(), Record.objects.count()) == (0, 0)


def test_a12_134_a_handler_that_makes_an_error_a_success_still_keeps_no_effects(alice: Caller, settings: Any) -> None:
    use_handler(settings, lambda error, context: Response({"ok": True}))
    key = new_key()
    with scripted(raising(ArithmeticError())):
        assert [alice.post("/raised/", key=key).status_code for _ in range(2)] == [200, 200]
    assert (Payment.objects.count(), Record.objects.get().response_status) == (0, 200)


def test_a12_134_the_handler_may_add_to_the_standard_one(alice: Caller, settings: Any) -> None:
    def handler(error: Exception, context: dict[str, Any]) -> Response | None:
        response = exception_handler(error, context)
        if response is not None:
            response.data = {"errors": response.data}
        return response

    use_handler(settings, handler)
    key = new_key()
    with scripted(raising(NotFound("no such account"))):
        first, again = (alice.post("/raised/", key=key) for _ in range(2))
    assert first.json() == {"errors": {"detail": "no such account"}}
    assert again.content == first.content


def test_a12_134_the_bytes_of_a_renderer_of_ones_own_are_replayed(alice: Caller) -> None:
    key = new_key()
    with scripted() as script:
        first, again = (
            alice.post("/negotiating/", key=key, headers={"Accept": "application/vnd.tests.reversed"}) for _ in range(2)
        )
    assert first.content.startswith(bytes(range(255, -1, -1)))
    assert (again.content, again["Content-Type"]) == (first.content, "application/vnd.tests.reversed")
    assert script.calls == 1


def test_a12_134_an_error_of_a_renderer_rolls_back_and_releases_the_key(alice: Caller) -> None:
    key = new_key()
    with scripted() as script:
        broken = alice.post("/negotiating/", key=key, headers={"Accept": "application/vnd.tests.broken"})
        assert (broken.status_code, Payment.objects.count(), Record.objects.count()) == (500, 0, 0)
        assert alice.post("/negotiating/", key=key).status_code == 201
    assert script.calls == 2


def test_a12_134_an_error_while_an_error_is_rendered_releases_the_key_too(alice: Caller) -> None:
    key = new_key()
    with scripted(raising(NotFound())):
        broken = alice.post("/negotiating/", key=key, headers={"Accept": "application/vnd.tests.broken"})
    assert (broken.status_code, Payment.objects.count(), Record.objects.count()) == (500, 0, 0)


def test_a12_134_a_parser_of_ones_own_reads_what_was_fingerprinted(alice: Caller) -> None:
    key = new_key()
    with scripted(lambda request: Response(request.data)) as script:
        first = alice.post("/negotiating/", "three euros", key=key, content_type="text/plain")
        again = alice.post("/negotiating/", "three euros", key=key, content_type="text/plain")
        other = alice.post("/negotiating/", "four euros", key=key, content_type="text/plain")
    assert (first.json(), again.content, other.status_code) == ({"text": "three euros"}, first.content, 422)
    assert script.calls == 1


def test_a12_134_what_no_parser_reads_is_refused_and_not_kept(alice: Caller) -> None:
    key = new_key()
    with scripted(lambda request: Response(request.data)):
        assert alice.post("/required/", "three", key=key, content_type="text/plain").status_code == 415
        assert alice.post("/required/", "{broken", key=key).status_code == 400
        assert (Payment.objects.count(), Record.objects.count()) == (0, 0)
        assert alice.post("/required/", {"amount": 3}, key=key).status_code == 200


def test_a12_134_another_version_of_the_api_is_another_request(alice: Caller) -> None:
    def post(version: str) -> Any:
        return alice.post("/negotiating/", key=key, headers={"Accept": f"application/json; version={version}"})

    key = new_key()
    with scripted(lambda request: Response({"version": request.version})) as script:
        first = post("1.0")
        assert post("1.0").content == first.content
        assert post("2.0").status_code == 422
    assert (first.json(), script.calls) == ({"version": "1.0"}, 1)


def test_a12_134_a_format_suffix_chooses_the_renderer_and_is_part_of_the_request(alice: Caller) -> None:
    key = new_key()
    with scripted(lambda request: Response({"format": request.accepted_renderer.format})) as script:
        first, again = (alice.post("/negotiating.reversed", key=key) for _ in range(2))
        assert first["Content-Type"] == again["Content-Type"] == "application/vnd.tests.reversed"
        assert alice.post("/negotiating.json", key=key).status_code == 422
        assert alice.post("/negotiating.json", key=new_key()).json() == {"format": "json"}
    assert (again.content, script.calls) == (first.content, 2)


def test_a12_134_the_browsable_api_runs_once_too(alice: Caller) -> None:
    key = new_key()
    browser = Client()
    browser.force_login(alice.user)

    def post() -> Any:
        headers = {"Accept": "text/html", "Idempotency-Key": f'"{key}"'}
        return browser.post("/negotiating/", {"amount": "3"}, headers=headers)

    with scripted() as script:
        first, again = post(), post()
        page = browser.get("/negotiating/", headers={"Accept": "text/html"})
    assert (first.status_code, again.status_code, page.status_code) == (201, 201, 200)
    assert first["Content-Type"] == "text/html; charset=utf-8"
    assert (again.content, script.calls, Payment.objects.count()) == (first.content, 1, 1)
    assert key not in first.content.decode()


JSON = b'{"amount": 3,   "note": "\xc3\xa4"}'
MULTIPART = (
    b'--x\r\nContent-Disposition: form-data; name="amount"\r\n\r\n3\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + bytes(range(256)) * 40 + b"\r\n--x--\r\n"
)
FILE = bytes(range(256)) * 40


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_data_first(request: Request) -> Response:
    return Response({"data": dict(request.data), "body": sha256(request.body)})


def read_body_first(request: Request) -> Response:
    body = sha256(request.body)
    return Response({"data": dict(request.data), "body": body})


def read_files(request: Request) -> Response:
    file = request.FILES["file"]
    return Response(
        {"amount": request.data["amount"], "name": file.name, "size": file.size, "file": sha256(file.read())}
    )


@pytest.mark.parametrize("ending", [read_data_first, read_body_first])
@pytest.mark.parametrize("path", ["/negotiating/", "/required/"])
def test_a12_135_data_and_body_are_readable_after_fingerprinting(alice: Caller, ending: Any, path: str) -> None:
    with scripted(ending):
        as_json = alice.post(path, JSON, key=new_key())
        as_form = alice.post(path, b"a=1&a=2", key=new_key(), content_type="application/x-www-form-urlencoded")
    assert as_json.json() == {"data": {"amount": 3, "note": "ä"}, "body": sha256(JSON)}
    assert as_form.json() == {"data": {"a": ["1", "2"]}, "body": sha256(b"a=1&a=2")}


def test_a12_135_files_and_body_are_readable_after_fingerprinting(alice: Caller) -> None:
    def ending(request: Request) -> Response:
        response = read_files(request)
        response.data["body"] = sha256(request.body)
        return response

    with scripted(ending):
        response = alice.post("/negotiating/", MULTIPART, key=new_key(), content_type="multipart/form-data; boundary=x")
    facts = {"amount": "3", "name": "a.bin", "size": len(FILE), "file": sha256(FILE), "body": sha256(MULTIPART)}
    assert response.json() == facts


@pytest.mark.parametrize("limit", [100, 10_000_000], ids=["beyond-the-buffer", "within"])
class Test135Sizes:
    """Bodies beyond DATA_UPLOAD_MAX_MEMORY_SIZE, which are read as a stream, and files beyond their limit."""

    @pytest.fixture(autouse=True)
    def _limit(self, limit: int, settings: Any) -> None:
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = settings.FILE_UPLOAD_MAX_MEMORY_SIZE = limit

    def sent_thrice(self, caller: Caller, script: Script, body: bytes, other: bytes, **options: Any) -> Any:
        """Send a request, the same again, and another one; return the first response."""
        key = new_key()
        first, again = (caller.post("/negotiating/", body, key=key, **options) for _ in range(2))
        assert (first.status_code, again.status_code, script.calls) == (200, 200, 1), first.content
        assert again.content == first.content
        assert caller.post("/negotiating/", other, key=key, **options).status_code == 422
        return first

    def test_a12_135_json_of_any_size_is_read_or_refused_as_it_is_without_a_key(self, alice: Caller) -> None:
        numbers = list(range(1000))
        body, other = (json.dumps(value).encode() for value in (numbers, [*numbers, 0]))
        with scripted(lambda request: Response(request.data)) as script:
            without = alice.post("/negotiating/", body)
            script.calls = 0
            if without.status_code == 200:
                assert self.sent_thrice(alice, script, body, other).content == without.content
            else:  # the framework lets a parser of JSON read no more than the limit
                assert alice.post("/negotiating/", body, key=new_key()).status_code == without.status_code == 400

    def test_a12_135_a_multipart_upload_of_any_size(self, alice: Caller) -> None:
        with scripted(read_files) as script:
            first = self.sent_thrice(
                alice,
                script,
                MULTIPART,
                MULTIPART.replace(b"\xff", b"\xfe", 1),
                content_type="multipart/form-data; boundary=x",
            )
        assert (first.json()["size"], first.json()["file"]) == (len(FILE), sha256(FILE))

    def test_a12_135_a_raw_upload_of_any_size(self, alice: Caller) -> None:
        def ending(request: Request) -> Response:
            with request.data["file"] as file:
                return Response({"file": sha256(b"".join(file.chunks()))})

        headers = {"Content-Disposition": "attachment; filename=a.bin"}
        with scripted(ending) as script:
            first = self.sent_thrice(
                alice, script, FILE, FILE[::-1], content_type="application/octet-stream", headers=headers
            )
        assert first.json() == {"file": sha256(FILE)}

    def test_a12_135_the_stream_itself(self, alice: Caller) -> None:
        with scripted(lambda request: Response({"read": sha256(request.stream.read())})) as script:
            first = self.sent_thrice(alice, script, FILE, FILE[::-1], content_type="application/octet-stream")
        assert first.json() == {"read": sha256(FILE)}


class ReadsTheBody(NotBanned):
    """Judges a request by what it says, which consumes the stream of a body beyond the buffer."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return "text" in request.data


@pytest.mark.parametrize(("limit", "calls"), [(100, 0), (10_000_000, 1)], ids=["beyond-the-buffer", "within"])
def test_a12_135_a_body_that_a_permission_has_read_already_is_never_taken_for_another(
    alice: Caller, settings: Any, monkeypatch: pytest.MonkeyPatch, limit: int, calls: int
) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = limit
    monkeypatch.setattr(NegotiatingView, "permission_classes", (ReadsTheBody,))
    key = new_key()
    with scripted(lambda request: Response(request.data)) as script:
        alice.post("/negotiating/", "a" * 1000, key=key, content_type="text/plain")
        other = alice.post("/negotiating/", "b" * 1000, key=key, content_type="text/plain")
    assert other.status_code >= 400
    assert script.calls == calls


@pytest.fixture
def _no_requests_yet() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.mark.usefixtures("_no_requests_yet")
class Test136Throttles:
    """A throttle lets two requests a minute through."""

    def test_a12_136_replays_count_by_default(self, alice: Caller) -> None:
        key = new_key()
        with scripted() as script:
            statuses = [alice.post("/throttled/", key=key).status_code for _ in range(3)]
        assert (statuses, script.calls) == ([201, 201, 429], 1)

    def test_a12_136_a_policy_may_let_replays_pass_uncounted(self, alice: Caller) -> None:
        key, another = new_key(), new_key()
        with scripted() as script:
            statuses = [alice.post("/throttled-anew/", key=key).status_code for _ in range(5)]
            assert (statuses, script.calls) == ([201] * 5, 1)
            assert alice.post("/throttled-anew/", key=another).status_code == 201
            throttled = alice.post("/throttled-anew/", key=new_key())
            assert alice.post("/throttled-anew/", key=key).status_code == 201
            assert alice.post("/throttled-anew/", key=another).status_code == 201
        assert (throttled.status_code, script.calls, Payment.objects.count()) == (429, 2, 2)
        assert int(throttled["Retry-After"]) > 0

    def test_a12_136_a_throttled_run_is_not_kept(self, alice: Caller) -> None:
        key = new_key()
        with scripted() as script:
            for _ in range(2):
                alice.post("/throttled-anew/", key=new_key())
            assert alice.post("/throttled-anew/", key=key).status_code == 429
            assert Record.objects.count() == 2
            cache.clear()
            assert alice.post("/throttled-anew/", key=key).status_code == 201
        assert script.calls == 3

    def test_a12_136_without_a_key_every_request_counts_once(self, alice: Caller) -> None:
        with scripted():
            statuses = [alice.post("/throttled-anew/").status_code for _ in range(3)]
        assert statuses == [201, 201, 429]

    def test_a12_136_a_view_within_an_operation_counts_as_ever(self, alice: Caller) -> None:
        with scripted() as script:
            statuses = [alice.post("/nesting/", key=new_key()).status_code for _ in range(3)]
        assert (statuses, script.calls) == ([201, 201, 429], 2)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"ttl": timedelta(0)}, "ttl"),
    ({"ttl": timedelta(seconds=-1)}, "ttl"),
    ({"ttl": timedelta(milliseconds=999)}, "ttl"),
    ({"wait": timedelta(seconds=-1)}, "wait"),
    ({"retry_after": 0}, "retry_after"),
    ({"retry_after": -1}, "retry_after"),
    ({"conflict_retries": -1}, "conflict_retries"),
    ({"max_body": -1}, "max_body"),
    ({"keep": "everything"}, "keep"),
    ({"body": "scrambled"}, "body"),
    ({"key_format": "guid"}, "key_format"),
]


@pytest.mark.parametrize(("fields", "name"), WRONG, ids=str)
def test_a12_140_a_policy_refuses_what_makes_no_sense(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"Policy\.{name} must"):
        Policy(**fields)


def test_a12_140_a_policy_refuses_a_name_that_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="requird"):
        Policy(requird=True)
    with pytest.raises(TypeError, match="requird"):
        idempotent(requird=True)


@pytest.mark.parametrize("name", ["Set-Cookie", "set-cookie", "SET-COOKIE"])
def test_a12_140_a_policy_refuses_to_replay_cookies(name: str) -> None:
    with pytest.raises(ValueError, match=r"Policy\.headers must not name \['set-cookie'\]"):
        Policy(headers=["X-Total-Count", name])


def test_a12_140_the_least_that_makes_sense_is_accepted() -> None:
    policy = Policy(
        ttl=timedelta(seconds=1),
        wait=timedelta(0),
        retry_after=1,
        conflict_retries=0,
        max_body=0,
        key_format=str.isdigit,
    )
    assert policy.ttl == timedelta(seconds=1)
