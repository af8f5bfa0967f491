"""Writes that may be repeated: windows for events without a key."""

from importlib import import_module
from typing import Any

_EXPORTS = {"DedupWindow": "windows", "Split": "windows"}

__all__ = ["DedupWindow", "Split"]


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: it needs the models, which may not be loaded yet."""
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
