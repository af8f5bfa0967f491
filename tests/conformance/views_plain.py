"""Plain Django views: functions and classes, synchronous and asynchronous, with the decorator or without any mark."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.contrib.auth.decorators import permission_required
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.template import engines
from django.template.response import TemplateResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from django_idempotency import Policy, idempotent
from tests.conformance.views_databases import PlainPaymentViewSet, WatchedPaymentViewSet, moments
from tests.models import Payment

PERMISSION = "tests.add_payment"


def create(request: HttpRequest) -> Payment:
    """Write the one row of a request."""
    moments.reach("before write")
    payment = Payment.objects.create(amount=3, reference=request.headers.get("X-Reference", ""))
    moments.reach("after write")
    return payment


def created(payment: Payment) -> JsonResponse:
    """Return an answer that no two executions have in common."""
    body = {"id": payment.pk, "nonce": uuid.uuid4().hex}
    return JsonResponse(body, status=201, headers={"Location": f"/payments/{payment.pk}/"})


def bare(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
    """A view that knows nothing of idempotency."""
    if not request.user.is_authenticated:
        raise PermissionDenied
    return created(create(request))


async def abare(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
    """The same, asynchronous: the row is committed with the step that writes it, where there is a lease."""
    lease = getattr(request, "idempotency", None)
    if lease is None:
        return created(await Payment.objects.acreate(amount=3))
    pk = await lease.acommit("create", lambda: create(request).pk)
    moments.reach("after commit")
    return created(await Payment.objects.aget(pk=pk))


class BareView(View):
    """A class-based view that knows nothing of idempotency."""

    def get(self, request: HttpRequest) -> HttpResponseBase:
        return JsonResponse({"payments": Payment.objects.count()})

    def post(self, request: HttpRequest) -> HttpResponseBase:
        return created(create(request))

    put = patch = delete = post


class AttributeView(BareView):
    idempotency = Policy(required=True)


class OptedOutView(BareView):
    idempotency = None


@method_decorator(idempotent(required=True), name="dispatch")
class DecoratedView(BareView):
    """Enrolled as Django decorates classes."""


@method_decorator(idempotent(required=True), name="dispatch")
class AsyncDecoratedView(View):
    async def post(self, request: HttpRequest) -> HttpResponseBase:
        return await abare(request)

    async def get(self, request: HttpRequest) -> HttpResponseBase:
        return JsonResponse({"payments": await Payment.objects.acount()})


class AsyncBareView(View):
    async def post(self, request: HttpRequest) -> HttpResponseBase:
        return await abare(request)


def ending(end: Callable[[HttpRequest], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Return a view that ends like this once it has written its row."""

    def view(request: HttpRequest) -> HttpResponseBase:
        create(request)
        return end(request)

    return view


def aending(end: Callable[[HttpRequest], HttpResponseBase]) -> Callable[..., Any]:
    """Return the same view, asynchronous."""

    async def view(request: Any) -> HttpResponseBase:
        await request.idempotency.acommit("create", lambda: create(request).pk)
        return end(request)

    return view


def missing(request: HttpRequest) -> HttpResponseBase:
    raise Http404("no such thing")


def forbidden(request: HttpRequest) -> HttpResponseBase:
    raise PermissionDenied


def broken(request: HttpRequest) -> HttpResponseBase:
    raise LookupError("a defect of the view")


def unavailable(request: HttpRequest) -> HttpResponseBase:
    return HttpResponse(status=503)


def conflict(request: HttpRequest) -> HttpResponseBase:
    return HttpResponse("no", status=409)


def nothing(request: HttpRequest) -> Any:
    return None


def undone(request: HttpRequest) -> HttpResponseBase:
    transaction.set_rollback(True)
    return HttpResponse(status=int(request.headers.get("X-Status", "400")))


def streamed(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(iter([b"a", b"b"]), headers={"Location": "/payments/"})


def redirected(request: HttpRequest) -> HttpResponseBase:
    return HttpResponseRedirect("/done/")


def long(request: HttpRequest) -> HttpResponseBase:
    return HttpResponse(uuid.uuid4().hex * 100)


def templated(request: HttpRequest) -> HttpResponseBase:
    template = engines["django"].from_string("{{ render }}")

    def render() -> str:
        moments.reach("render")
        return f"payments: {Payment.objects.count()}"

    return TemplateResponse(request, template, {"render": render})


def form(request: HttpRequest) -> HttpResponseBase:
    """Say what was read of the request's form after the fingerprint was taken."""
    names = sorted(name for name in request.POST if name != "csrfmiddlewaretoken")
    files = {name: len(file.read()) for name, file in request.FILES.items()}
    create(request)
    return JsonResponse({"fields": names, "files": files})


def body(request: HttpRequest) -> HttpResponseBase:
    """Say how long the body is that can still be read."""
    create(request)
    return JsonResponse({"length": len(request.body)})


async def greet(request: Any) -> HttpResponseBase:
    """Ask who asks, as an asynchronous view does."""
    user = await request.auser()
    return HttpResponse(user.username)


ENDINGS = {
    "missing": missing,
    "forbidden": forbidden,
    "broken": broken,
    "unavailable": unavailable,
    "conflict": conflict,
    "nothing": nothing,
    "undone": undone,
    "streamed": streamed,
    "redirected": redirected,
    "templated": templated,
    "long": long,
}


class ErrorNotes:
    """Middleware that makes an answer of each defect of a view."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        return HttpResponse("noted", status=500) if isinstance(exception, LookupError) else None


@idempotent(required=True)
def nesting(request: HttpRequest) -> HttpResponseBase:
    """Answer through another enrolled view."""
    inner = decorated(request)
    return HttpResponse(inner.content, status=inner.status_code)


@csrf_exempt
def through_a_mixin(request: HttpRequest) -> HttpResponseBase:
    """Answer through a DRF view with the mixin."""
    inner = WatchedPaymentViewSet.as_view({"post": "create"})(request)
    return HttpResponse(inner.rendered_content, status=inner.status_code)


def knows(request: HttpRequest) -> bool:
    return request.user.has_perm(PERMISSION)


decorated = idempotent(required=True)(bare)
adecorated = idempotent(required=True)(abare)
permitted = permission_required(PERMISSION, raise_exception=True)(decorated)
drf = PlainPaymentViewSet.as_view({"post": "create"})
mixed = WatchedPaymentViewSet.as_view({"post": "create"})
