"""What an operator is asked before a decision is carried out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminIntegerFieldWidget, AdminTextareaWidget, AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _

from django_idempotency.conf import settings
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.policies import Policy
from django_idempotency.http.responses import capture

LONGEST_REASON = 1000


class DecisionForm(forms.Form):
    """Why. ``seen`` is the record as the page showed it: a decision about another state is not carried out."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=LONGEST_REASON,
        widget=AdminTextareaWidget(attrs={"rows": 3}),
        help_text=_("Kept in the audit as you write it: name no keys and no personal data."),
    )
    seen = forms.CharField(widget=forms.HiddenInput)


class LeaseForm(DecisionForm):
    """A decision that may overrule a lease."""

    force = forms.BooleanField(
        label=_("Even though its lease is still held"),
        required=False,
        help_text=_("What its owner has not committed yet is rolled back."),
    )


class OutcomeForm(LeaseForm):
    """The response that retries will get."""

    status = forms.IntegerField(
        label=_("Status of the response"), min_value=200, max_value=499, initial=200, widget=AdminIntegerFieldWidget
    )
    content_type = forms.CharField(
        label=_("Content type"), max_length=255, initial="application/json", widget=AdminTextInputWidget
    )
    body = forms.CharField(label=_("Body"), required=False, strip=False, widget=AdminTextareaWidget(attrs={"rows": 6}))
    ttl = forms.IntegerField(
        label=_("Replayed for (seconds)"), min_value=1, max_value=10 * 366 * 24 * 3600, widget=AdminIntegerFieldWidget
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["ttl"].initial = int(settings.ttl.total_seconds())

    def clean_status(self) -> int:
        """Refuse what no replay could send."""
        status: int = self.cleaned_data["status"]
        if not Policy(keep="raised").keeps(status, raised=True):
            raise ValidationError(_("An outcome is 2xx, 3xx, or a 4xx that is about the operation."))
        return status

    def clean(self) -> dict[str, Any]:
        """Make the outcome."""
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors:
            cleaned["outcome"] = self._outcome(cleaned)
            cleaned["ttl"] = timedelta(seconds=cleaned["ttl"])
        return cleaned

    def _outcome(self, cleaned: dict[str, Any]) -> Outcome:
        try:
            response = HttpResponse(
                cleaned["body"].encode(), status=cleaned["status"], content_type=cleaned["content_type"]
            )
        except ValueError as error:
            raise ValidationError({"content_type": _("A header has one line.")}) from error
        outcome = capture(response, Policy())
        if outcome.body is None:
            raise ValidationError({"body": _("The body is longer than IDEMPOTENCY_MAX_BODY.")})
        return outcome
