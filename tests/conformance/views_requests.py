"""Views about requests: their keys, their scopes, their fingerprints."""

from __future__ import annotations

import hashlib
from threading import Event
from typing import Any, ClassVar

from rest_framework.authentication import TokenAuthentication
from rest_framework.parsers import BaseParser, FileUploadParser, FormParser, JSONParser, MultiPartParser
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.versioning import BaseVersioning
from rest_framework.views import APIView

from django_idempotency import Policy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.models import Payment

#: Names of the views that ran, in order, whether or not their effects were kept.
runs: list[str] = []


class BytesParser(BaseParser):
    """Takes any body as it stands."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> bytes:
        return bytes(stream.read())


class PaymentView(IdempotencyMixin, APIView):
    """Writes one row a run and says for whom."""

    authentication_classes: Any = (TokenAuthentication,)
    permission_classes: Any = (IsAuthenticated,)
    parser_classes: Any = (JSONParser, FormParser, MultiPartParser)
    idempotency = Policy(required=True)

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        runs.append(type(self).__name__)
        facts = self.read(request)
        payment = Payment.objects.create(amount=1, reference=str(request.user))
        return Response({"id": payment.pk, "user": str(request.user), **facts}, status=201)

    def read(self, request: Request) -> dict[str, Any]:
        """Let DRF parse the body, so that what it refuses is refused."""
        _ = request.data
        return {}


class EveryMethodView(PaymentView):
    """Answers all methods; which of them are enrolled is up to the policy."""

    def put(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.post(request)

    patch = delete = put

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        runs.append("get")
        return Response({"payments": Payment.objects.count()})

    def head(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.get(request)


class UnenrolledView(PaymentView):
    """Decides, request by request, to enrol nothing."""

    def get_idempotency_policy(self) -> Policy | None:
        return None


class OpenView(PaymentView):
    """Open to all, and without a scope; still it knows whom a token belongs to."""

    permission_classes = (AllowAny,)
    idempotency = Policy()


class NobodyView(OpenView):
    """Knows nobody at all."""

    authentication_classes = ()


class UploadView(PaymentView):
    """Reads every file of a form."""

    parser_classes = (MultiPartParser,)

    def read(self, request: Request) -> dict[str, Any]:
        files = {name: hashlib.sha256(file.read()).hexdigest() for name, file in request.FILES.items()}
        return {"files": files, "fields": {name: request.data[name] for name in request.POST}}


class FileView(PaymentView):
    """Takes the whole body as one file."""

    parser_classes = (FileUploadParser,)

    def read(self, request: Request) -> dict[str, Any]:
        return {"file": hashlib.sha256(request.data["file"].read()).hexdigest()}


class RawView(PaymentView):
    """Takes any body as bytes."""

    parser_classes = (BytesParser,)

    def read(self, request: Request) -> dict[str, Any]:
        content = request.data or b""
        return {"length": len(content), "sha256": hashlib.sha256(content).hexdigest()}


class DictParser(MultiPartParser):
    """Makes a plain dict of a form, as parsers of nested forms do."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        parsed = super().parse(stream, media_type, parser_context)
        return {**parsed.data.dict(), **parsed.files.dict()}


class DictView(PaymentView):
    """Reads a form that is no MultiValueDict."""

    parser_classes = (DictParser,)

    def read(self, request: Request) -> dict[str, Any]:
        return {"names": sorted(request.data)}


class ReadingView(PaymentView):
    """Reads one body in every way there is."""

    def read(self, request: Request) -> dict[str, Any]:
        return {
            "body": len(request.body),
            "data": {name: request.data[name] for name in request.data if name not in request.FILES},
            "post": request.POST.dict(),
            "files": {name: file.read().decode() for name, file in request.FILES.items()},
        }


class Gate:
    """Holds a run inside its transaction until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = Event()
        self.opened = Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.opened.wait(30)


class GateView(PaymentView):
    """Stops at the gate that a test has put up."""

    gate: ClassVar[Gate | None] = None

    def read(self, request: Request) -> dict[str, Any]:
        if self.gate:
            self.gate.pass_through()
        return super().read(request)


class HeaderVersioning(BaseVersioning):
    """Takes the version of the API from a header of its own."""

    def determine_version(self, request: Request, *args: Any, **kwargs: Any) -> str:
        return str(request.headers.get("API-Version", "1"))


def tenant_and_user(request: Request) -> tuple[str, ...]:
    """Look up the tenant of the user; here it is the first name."""
    return (request.user.first_name, f"user:{request.user.pk}")


def names_of_user(request: Request) -> tuple[str, ...]:
    """Two texts that could run into each other."""
    return (request.user.first_name, request.user.last_name)


def is_invoice_number(key: str) -> bool:
    """Judge a key format of one's own."""
    return key.startswith("INV-") and key.removeprefix("INV-").isdigit()
