"""Browser forms, whose key travels in a hidden field."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.generic.edit import FormView

from django_idempotency.core.policies import Policy
from django_idempotency.http.decorators import enrol
from django_idempotency.http.transactions import own_transactions

if TYPE_CHECKING:
    _Base = FormView[Any]
else:
    _Base = object

FORM_FIELD = "idempotency_key"


class IdempotentFormMixin(_Base):
    """Makes a FormView, CreateView or UpdateView idempotent; stands after the mixins that check who asks.

    A second click waits for the first and shows the same page, as does a reload. An invalid form is answered 422, which
    is not kept: the corrected form may be sent with the same key.
    """

    idempotency: ClassVar[Policy] = Policy(
        required=True, form_field=FORM_FIELD, keep="success", wait=timedelta(seconds=10)
    )

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """Return the view, whose transaction is the engine's rather than that of ATOMIC_REQUESTS."""
        view = super().as_view(**initkwargs)
        own_transactions(view)
        return view

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer through the exchange."""
        response: HttpResponseBase = enrol(super().dispatch, self.idempotency)(request, *args, **kwargs)
        return response

    def form_invalid(self, form: Any) -> HttpResponse:
        """Show the errors, as an answer that is not the outcome of the operation."""
        response = super().form_invalid(form)
        response.status_code = 422
        return response
