"""The Django application: label ``idempotency``, tables ``idempotency_*``."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class IdempotencyConfig(AppConfig):
    """Registers the system checks and connects the listeners when Django starts."""

    name = "django_idempotency"
    label = "idempotency"
    verbose_name = _("Idempotency")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, connect the listeners, import the projections and the consumers of all apps."""
        from django_idempotency import checks
        from django_idempotency.audit import events, log

        checks.register_all()
        events.connect()
        log.connect()
        _register_retentions()
        autodiscover_modules("projections")
        autodiscover_modules("consumers")


def _register_retentions() -> None:
    """Have what the rooms keep purged, that of the audit wherever records are, and what waits told to monitors."""
    from django_idempotency.audit import retentions as of_audit
    from django_idempotency.jobs import retentions as of_jobs
    from django_idempotency.purging import store_aliases
    from django_idempotency.streams import boards, floors  # noqa: F401 - floors register themselves

    of_audit.register(store_aliases)
    of_jobs.register()
    boards.register_board()
