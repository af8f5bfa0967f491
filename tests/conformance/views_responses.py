"""Views that end as a test scripts them, and ways to have two requests at once."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any, ClassVar, TypeVar

from django.db import connection, connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.test import Client
from rest_framework import generics, parsers, renderers, throttling, versioning, viewsets
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.decorators import action, api_view, authentication_classes, permission_classes
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import Policy
from django_idempotency.rest_framework import IdempotencyMixin, idempotent
from tests.callers import Caller
from tests.models import Payment
from tests.views import PaymentSerializer

T = TypeVar("T")
Ending = Callable[[Request], HttpResponseBase]

PATIENCE = 30


@dataclass
class Script:
    """What a view does once it has written its payment, and how often a view was called."""

    ending: Ending
    calls: int = 0

    def play(self, request: Request) -> HttpResponseBase:
        self.calls += 1
        Payment.objects.create(amount=self.calls)
        return self.ending(request)


_scripts: list[Script] = []


def created(request: Request) -> Response:
    """The ending of most tests: no two executions give the same body."""
    body = {"id": Payment.objects.latest("id").pk, "nonce": uuid.uuid4().hex}
    return Response(body, status=201, headers={"Location": f"/payments/{body['id']}/"})


@contextmanager
def scripted(ending: Ending = created) -> Iterator[Script]:
    """Let the views of this module end like this."""
    script = Script(ending)
    _scripts.append(script)
    try:
        yield script
    finally:
        _scripts.remove(script)


def elsewhere(work: Callable[[], T]) -> T:
    """Do some work on a database connection of its own, and commit it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_closing, work).result(PATIENCE)


def _closing(work: Callable[[], T]) -> T:
    try:
        return work()
    finally:
        connections.close_all()


def twin(caller: Caller) -> Caller:
    """Return the same user with a client of its own, for another thread."""
    other = copy.copy(caller)
    other.client = Client(raise_request_exception=False)
    return other


@dataclass
class Flight:
    """A request whose view is waiting for ``land``."""

    script: Script
    response: Future[Any]
    land: Callable[[], None]
    pool: ThreadPoolExecutor

    def join(self, caller: Caller, *args: Any, **options: Any) -> Future[Any]:
        """Send another request beside it."""
        return self.pool.submit(_closing, lambda: twin(caller).post(*args, **options))


@contextmanager
def in_flight(caller: Caller, path: str, body: Any = None, *, key: str, ending: Ending = created) -> Iterator[Flight]:
    """Send a request, and keep it in its view till ``land`` is called or the block ends."""
    entered, released = Event(), Event()

    def held(request: Request) -> HttpResponseBase:
        entered.set()
        assert released.wait(PATIENCE)
        return ending(request)

    with scripted(held) as script, ThreadPoolExecutor(4) as pool:
        first = pool.submit(_closing, lambda: twin(caller).post(path, body, key=key))
        try:
            assert entered.wait(PATIENCE)
            yield Flight(script, first, released.set, pool)
        finally:
            released.set()


@contextmanager
def impatient() -> Iterator[None]:
    """Make this thread give up at once on SQLite's write lock, for which it would wait as long as ``timeout`` says."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 50")
    try:
        yield
    finally:
        connection.close()


class NotBanned(BasePermission):
    """Lets nobody in who is in the group ``banned``."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return not request.user.groups.filter(name="banned").exists()


class NotFrozen(BasePermission):
    """Lets nobody touch a payment with the reference ``frozen``."""

    def has_object_permission(self, request: Request, view: Any, obj: Payment) -> bool:
        return obj.reference != "frozen"


class Authenticated:
    """Who may call the views."""

    authentication_classes = (TokenAuthentication, SessionAuthentication)
    permission_classes: ClassVar[tuple[type[BasePermission], ...]] = (IsAuthenticated, NotBanned)


class ScriptedView(Authenticated, IdempotencyMixin, APIView):
    """Routed once for each policy."""

    def post(self, request: Request, **kwargs: Any) -> HttpResponseBase:
        return _scripts[-1].play(request)


class StampingView(APIView):
    """A base class of the project, which does something around every request."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response = super().dispatch(request, *args, **kwargs)
        except ArithmeticError:
            return HttpResponse(status=599)
        response["X-Stamp"] = "stamped"
        return response

    def finalize_response(self, request: Request, response: HttpResponseBase, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["X-Finalized"] = str(int(response.get("X-Finalized", 0)) + 1)
        return response


class StampedView(Authenticated, IdempotencyMixin, StampingView):
    def post(self, request: Request) -> HttpResponseBase:
        return _scripts[-1].play(request)


class TwicePerMinute(throttling.UserRateThrottle):
    """Two requests a minute."""

    rate = "2/min"


class ThrottledView(ScriptedView):
    throttle_classes = (TwicePerMinute,)


class NestingView(ScriptedView):
    """Passes its request on to another enrolled view."""

    def post(self, request: Request, **kwargs: Any) -> HttpResponseBase:
        return ThrottledView.as_view(idempotency=Policy(throttle_replays=False))(request._request)


class PlainTextParser(parsers.BaseParser):
    media_type = "text/plain"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return {"text": stream.read().decode()}


class ReversedRenderer(renderers.BaseRenderer):
    """A media type of our own, with bytes that are no text."""

    media_type = "application/vnd.tests.reversed"
    format = "reversed"
    charset = None
    render_style = "binary"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return bytes(range(255, -1, -1)) + repr(data).encode()[::-1]


class BrokenRenderer(renderers.BaseRenderer):
    media_type = "application/vnd.tests.broken"
    format = "broken"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        raise ArithmeticError("this renderer always fails")


class NegotiatingView(ScriptedView):
    """Speaks several media types, both ways."""

    renderer_classes = (renderers.JSONRenderer, ReversedRenderer, BrokenRenderer, renderers.BrowsableAPIRenderer)
    parser_classes = (
        parsers.JSONParser,
        parsers.FormParser,
        parsers.MultiPartParser,
        PlainTextParser,
        parsers.FileUploadParser,
    )
    versioning_class = versioning.AcceptHeaderVersioning

    def get(self, request: Request) -> Response:
        return Response({})


class GenericPayments(Authenticated, IdempotencyMixin, generics.CreateAPIView):
    queryset = Payment.objects.all()
    serializer_class = PaymentSerializer


class PaymentSet(Authenticated, IdempotencyMixin, viewsets.ViewSet):
    def create(self, request: Request) -> HttpResponseBase:
        return _scripts[-1].play(request)


class ModelPayments(Authenticated, IdempotencyMixin, viewsets.ModelViewSet):
    queryset = Payment.objects.order_by("id")
    serializer_class = PaymentSerializer
    permission_classes = (IsAuthenticated, NotFrozen)
    idempotency = Policy(methods=("POST", "PATCH", "PUT", "DELETE"))

    def perform_create(self, serializer: Any) -> None:
        _scripts[-1].calls += 1
        super().perform_create(serializer)

    @action(detail=True, methods=["post"])
    def export(self, request: Request, pk: str) -> HttpResponseBase:
        self.get_object()
        return _scripts[-1].play(request)


class PaymentsWithAnAction(Authenticated, IdempotencyMixin, viewsets.ModelViewSet):
    """Only its action is enrolled."""

    queryset = Payment.objects.order_by("id")
    serializer_class = PaymentSerializer
    idempotency = None

    @action(detail=False, methods=["post"], idempotency=Policy(required=True))
    def pay(self, request: Request) -> HttpResponseBase:
        return _scripts[-1].play(request)


@idempotent(required=True)
@api_view(["POST"])
@authentication_classes([TokenAuthentication])
@permission_classes([IsAuthenticated])
def pay(request: Request) -> HttpResponseBase:
    return _scripts[-1].play(request)


class ExchangeHeadersMiddleware:
    """Adds what belongs to the exchange at hand, each time anew."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response["X-Request-Id"] = uuid.uuid4().hex
        response["Access-Control-Allow-Origin"] = request.headers.get("Origin", "none")
        response["Content-Security-Policy"] = f"script-src 'nonce-{uuid.uuid4().hex}'"
        return response
