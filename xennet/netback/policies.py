"""The backends by name; each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from xennet.netback.policy import BackendPolicy

#: Name -> module and attribute.
POLICIES = {
    "linux": ("xennet.netback.policy", "LINUX"),
    "xnb": ("xennet.netback.xnb.policy", "XNB"),
}


def policy(name: str) -> BackendPolicy:
    """The policy called ``name``. Raises KeyError if there is none."""
    module, attribute = POLICIES[name]
    return cast(BackendPolicy, getattr(import_module(module), attribute))
