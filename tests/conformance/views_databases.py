"""Views and stores that let a test act at named moments of a request, in the thread that serves it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.decorators import method_decorator
from rest_framework.authtoken.models import Token
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import ModelViewSet

from django_idempotency import Policy
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.postgresql import PostgreSQL
from tests.models import Payment
from tests.views import PaymentSerializer, PaymentViewSet


class Moments:
    """What is done at the moments that views and stores reach."""

    def __init__(self) -> None:
        self._actions: dict[str, Callable[[], Any]] = {}

    def at(self, moment: str, act: Callable[[], Any]) -> None:
        """Let every request that reaches the moment do this there."""
        self._actions[moment] = act

    def once_at(self, moment: str, act: Callable[[], Any]) -> None:
        """Let the first request that reaches the moment do this there."""
        self._actions[moment] = lambda: self._actions.pop(moment) and act()

    def expect(self, moment: str) -> bool:
        """Tell whether something is to be done at the moment."""
        return moment in self._actions

    def reach(self, moment: str) -> None:
        """Do what was set for the moment."""
        if act := self._actions.get(moment):
            act()

    def clear(self) -> None:
        """Forget everything."""
        self._actions.clear()


moments = Moments()


class WatchedRenderer(JSONRenderer):
    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        moments.reach("render")
        return super().render(data, accepted_media_type, renderer_context)


class WatchedPaymentViewSet(PaymentViewSet):
    renderer_classes = (WatchedRenderer,)

    def perform_create(self, serializer: BaseSerializer[Payment]) -> None:
        moments.reach("before write")
        serializer.save()
        moments.reach("after write")


class RetriedPaymentViewSet(WatchedPaymentViewSet):
    idempotency = Policy(required=True, conflict_retries=2)


class PlainPaymentViewSet(ModelViewSet):
    """The same view without idempotency, to measure what that costs."""

    queryset = PaymentViewSet.queryset
    serializer_class = PaymentSerializer
    authentication_classes = PaymentViewSet.authentication_classes
    permission_classes = PaymentViewSet.permission_classes


class OrphanPaymentViewSet(WatchedPaymentViewSet):
    """Breaks a foreign key that the database checks no earlier than at COMMIT."""

    def perform_create(self, serializer: BaseSerializer[Payment]) -> None:
        super().perform_create(serializer)
        moments.reach("orphan")

    @staticmethod
    def leave_an_orphan() -> None:
        Token.objects.create(key="orphan", user_id=0)


class NestingPaymentViewSet(WatchedPaymentViewSet):
    """Answers through another enrolled view, or through another of its own actions."""

    @action(detail=False, methods=["post"])
    def through_a_view(self, request: Request) -> Response:
        inner: Response = WatchedPaymentViewSet.as_view({"post": "create"})(request._request)
        return Response({"inner": inner.data}, status=inner.status_code)

    @action(detail=False, methods=["post"])
    def through_itself(self, request: Request) -> Response:
        return self.create(request)


class TransactionalPaymentViewSet(WatchedPaymentViewSet):
    """Opens transactions within that of the request, or says whether there is one."""

    idempotency = Policy()

    def perform_create(self, serializer: BaseSerializer[Payment]) -> None:
        match serializer.validated_data.get("reference"):
            case "durable":
                with transaction.atomic(durable=True):
                    serializer.save()
            case "savepoint":
                serializer.save()
                with transaction.atomic():
                    Payment.objects.create(amount=99, reference="undone")
                    transaction.set_rollback(True)
            case "refused":
                serializer.save()
                raise ValidationError({"reference": "refused after the write"})
            case _:
                serializer.save(reference="in a transaction" if connection.in_atomic_block else "autocommit")


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class NonAtomicPaymentViewSet(TransactionalPaymentViewSet):
    pass


class WatchedStore(DatabaseStore):
    """Reaches a moment when an outcome has been written and not yet committed."""

    def complete(self, claim: Claim, outcome: Outcome, *, ttl: timedelta, last: bool = False) -> datetime:
        """Complete in a statement of its own where something is to be done before the COMMIT."""
        expires_at = super().complete(claim, outcome, ttl=ttl, last=last and not moments.expect("after complete"))
        moments.reach("after complete")
        return expires_at


class LocklessPostgreSQL(PostgreSQL):
    """Claims without the advisory locks that refuse a duplicate early."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)
        for lock in ("pg_try_advisory_xact_lock(%s)", "pg_advisory_xact_lock(%s)"):
            assert lock in self._claim
            self._claim = self._claim.replace(lock, "%s::bigint IS NOT NULL")
        self._may_call = False  # which take the locks


class LocklessStore(WatchedStore):
    """Leaves all decisions to the unique row, as two requests of one instant do."""

    def _dialect(self, connection: BaseDatabaseWrapper) -> PostgreSQL:
        return LocklessPostgreSQL(connection)
