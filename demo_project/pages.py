"""Pages for people: a form that makes one charge, however often it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.mixins import LoginRequiredMixin
from django.forms import ModelForm
from django.http import HttpResponse, HttpResponseBadRequest
from django.urls import reverse
from django.views.generic import CreateView, DetailView
from rest_framework.exceptions import ParseError

from demo_project.announcements import announce
from demo_project.faults import requested_fault
from demo_project.models import Charge
from django_idempotency.http.forms import IdempotentFormMixin

if TYPE_CHECKING:
    _CreateView = CreateView[Charge, ModelForm[Charge]]
    _DetailView = DetailView[Charge]
else:
    _CreateView, _DetailView = CreateView, DetailView


class ChargeFormView(LoginRequiredMixin, IdempotentFormMixin, _CreateView):
    """The form. Its hidden key is made with the page, so that sending it twice is one operation."""

    model = Charge
    fields = ("user_id", "amount_cents")
    template_name = "demo/charge_form.html"

    def form_valid(self, form: ModelForm[Charge]) -> HttpResponse:
        """Make the charge."""
        try:
            fault = requested_fault(self.request)
        except ParseError as error:
            return HttpResponseBadRequest(str(error.detail))
        response = super().form_valid(form)
        assert self.object
        announce(self.object)
        return fault.strike(response)

    def get_success_url(self) -> str:
        """Show what was made."""
        assert self.object
        return reverse("charge-page", args=[self.object.pk])


class ChargeView(LoginRequiredMixin, _DetailView):
    """One charge."""

    model = Charge
    template_name = "demo/charge.html"
