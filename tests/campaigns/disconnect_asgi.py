"""An asynchronous view that writes one row, as uvicorn serves it."""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
application = get_asgi_application()
settings.ROOT_URLCONF = __name__

import json  # noqa: E402 - the rest needs the apps
from datetime import timedelta  # noqa: E402
from typing import Any  # noqa: E402

from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402

from django_idempotency import Policy, idempotent  # noqa: E402
from tests.models import Payment  # noqa: E402


def user_of_token(request: HttpRequest) -> str:
    """Return who asks."""
    return str(Token.objects.get(key=request.headers["Authorization"].removeprefix("Token ")).user_id)


@csrf_exempt
@idempotent(Policy(required=True, scope=user_of_token, lease=timedelta(seconds=5)))
async def pay(request: Any) -> HttpResponse:
    """Write the row in a step, then read it again."""
    body = json.loads(request.body)
    pk = await request.idempotency.acommit("pay", lambda: Payment.objects.create(**body).pk)
    payment = await Payment.objects.aget(pk=pk)
    return JsonResponse({"id": pk, "reference": payment.reference, "amount": payment.amount}, status=201)


urlpatterns = [path("payments/", pay)]
