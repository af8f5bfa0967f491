"""``{% idempotency_key_field %}``: the key of a browser form."""

from __future__ import annotations

from uuid import uuid4

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_idempotency.http.forms import FORM_FIELD

register = template.Library()


@register.simple_tag
def idempotency_key_field(name: str = FORM_FIELD) -> SafeString:
    """Render a hidden input with a new key: each time a form is shown, one thing more may be done with it.

    A form that is shown again because of its errors gets a new one too; the old one has done nothing.
    """
    return format_html('<input type="hidden" name="{}" value="{}">', name, uuid4())
