"""The backends that there are, by name; each is imported when somebody wants it."""

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
    """The policy called ``name``; KeyError if there is none."""
    module, attribute = POLICIES[name]
    return cast(BackendPolicy, getattr(import_module(module), attribute))
