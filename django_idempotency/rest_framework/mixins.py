"""The view mixin."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.http import Http404
from django.http.response import HttpResponseBase
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.conf import settings
from django_idempotency.core.policies import Policy
from django_idempotency.core.records import Operation
from django_idempotency.exceptions import IdempotencyError, MissingKey, MissingScope, StoreUnavailable
from django_idempotency.http import exchange
from django_idempotency.http.bodies import buffer_body
from django_idempotency.http.operations import build_operation, has_key, read_key, user_scope
from django_idempotency.http.problems import UNENROLLED, problem_response
from django_idempotency.http.transactions import own_transactions, shielded
from django_idempotency.rest_framework.handlers import Handler, HandlerRun, pass_responses_on, run_unprotected

if TYPE_CHECKING:
    _Base = APIView
else:
    _Base = object


class IdempotencyMixin(_Base):
    """Makes the writes of an APIView, generic view or viewset idempotent; stands before the view class.

    Authentication, permissions and throttles come first. Then a request with a known key is answered from its record,
    and one with a new key runs in a transaction together with the record of its outcome.
    """

    idempotency: ClassVar[Policy | None] = Policy()
    owns_transaction = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if issubclass(cls, APIView) and cls.mro().index(IdempotencyMixin) > cls.mro().index(APIView):
            raise TypeError(f"{cls.__qualname__}: IdempotencyMixin must stand before the view class.")

    @classmethod
    def as_view(cls, *args: Any, **initkwargs: Any) -> Any:
        """Return the view, whose transaction is the engine's rather than that of ATOMIC_REQUESTS."""
        view = super().as_view(*args, **initkwargs)
        own_transactions(view)
        return view

    def get_idempotency_policy(self) -> Policy | None:
        """Return the policy of the request at hand (``self.request``, ``self.action``); None enrols nothing."""
        return self.idempotency

    def get_idempotency_scope(self, request: Request) -> str | tuple[str, ...]:
        """Return who asks, as the server knows it: tenant and principal. Raises MissingScope for nobody."""
        policy = self.get_idempotency_policy()
        return policy.scope(request) if policy and policy.scope else user_scope(request.user)

    def check_replay_permissions(self, request: Request) -> None:
        """Refuse a replay to a user who may no longer see the object: a detail route looks its object up again.

        A deleted object does not stand in the way of replaying its deletion.
        """
        if isinstance(self, GenericAPIView) and (self.lookup_url_kwarg or self.lookup_field) in self.kwargs:
            try:
                self.get_object()
            except Http404:
                if request.method != "DELETE":
                    raise

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check the request, then put the engine around its handler."""
        method = (request.method or "").lower()
        handler: Handler | None = getattr(self, method, None)
        enrolled = handler is not None and not exchange.is_running(request._request)
        if enrolled and has_key(request._request):
            buffer_body(request._request)  # before an authenticator or a throttle reads the stream
        super().initial(request, *args, **kwargs)
        if enrolled and handler is not None:
            setattr(self, method, partial(self._handle, handler, self.get_idempotency_policy()))

    def check_throttles(self, request: Request) -> None:
        """Check throttles; only before a fresh run where the policy says that replays do not count."""
        if not self._defers_throttles(request):
            super().check_throttles(request)

    def handle_exception(self, exc: Exception) -> Response:
        """Handle an exception; outside the engine's transaction there is nothing of ours for DRF to roll back."""
        if self.owns_transaction:
            return super().handle_exception(exc)
        with shielded():
            return super().handle_exception(exc)

    def _defers_throttles(self, request: Request) -> bool:
        policy = self.get_idempotency_policy()
        if policy is None or policy.throttle_replays or exchange.is_running(request._request):
            return False
        return request.method in policy.methods and has_key(request._request)

    def _handle(
        self, handler: Callable[..., Any], policy: Policy | None, request: Request, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        bound = partial(handler, request, *args, **kwargs)
        if policy is None or request.method not in policy.methods:
            return self._handle_unenrolled(bound, request)
        try:
            operation = self._operation(policy, request, kwargs)
            if operation is not None:
                return self._perform(bound, policy, operation, request)
        except MissingScope:
            self.permission_denied(request)
        except IdempotencyError as error:
            return exchange.refuse(request._request, error, policy)
        return run_unprotected(self, bound, request, "unprotected")

    def _handle_unenrolled(self, handler: Handler, request: Request) -> HttpResponseBase:
        if not has_key(request._request):
            return run_unprotected(self, handler, request)
        if settings.UNENROLLED == "refuse" and request.method not in ("GET", "HEAD", "OPTIONS"):
            return problem_response(request._request, UNENROLLED)
        return run_unprotected(self, handler, request, "ignored")

    def _operation(self, policy: Policy, request: Request, kwargs: dict[str, Any]) -> Operation | None:
        """Return what the request asks for, None without a key; no frame of a running view holds the key itself."""
        key = read_key(request._request, policy)
        if key is None:
            if policy.required:
                raise MissingKey
            return None
        return build_operation(
            request._request,
            policy,
            key=key,
            scope=self.get_idempotency_scope(request),
            form=request,
            route_arguments=kwargs,
            version=str(request.version or ""),
        )

    def _perform(self, handler: Handler, policy: Policy, operation: Operation, request: Request) -> HttpResponseBase:
        run = HandlerRun(self, handler, policy, request)
        try:
            execution = run.perform(operation)
        except StoreUnavailable as error:
            if run.has_run or not exchange.runs_unprotected(error, policy, operation):
                raise
            return run_unprotected(self, partial(self._throttled, handler, request), request, "unprotected")
        if execution.replayed is None:
            pass_responses_on(self)
        return exchange.answer(execution, policy)

    def _throttled(self, handler: Handler, request: Request) -> HttpResponseBase:
        """Run a handler after the throttles that were to be checked before a fresh run alone."""
        if self._defers_throttles(request):
            super().check_throttles(request)
        return handler()
