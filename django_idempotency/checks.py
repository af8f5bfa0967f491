"""System checks."""

from __future__ import annotations

from typing import Any

from django.core import checks


def register_all() -> None:
    """Register every check with Django."""
