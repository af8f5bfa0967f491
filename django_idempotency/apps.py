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
        _register_audit()
        _register_streams()
        autodiscover_modules("projections")
        autodiscover_modules("consumers")


def _register_audit() -> None:
    """Have what the audit keeps purged wherever records are: it does not know the stores."""
    from django_idempotency.audit import retentions
    from django_idempotency.purging import store_aliases

    retentions.register(store_aliases)


def _register_streams() -> None:
    """Have what streams remember purged with the rest, and what waits in them told to monitors."""
    from django_idempotency.streams import boards, floors  # noqa: F401

    boards.register_board()
