"""The Django application of the demo: label ``demo``, tables ``demo_*``."""

from django.apps import AppConfig


class DemoConfig(AppConfig):
    """A payment service of one model."""

    name = "demo_project"
    label = "demo"
    verbose_name = "Payments"
