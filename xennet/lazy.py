"""Names of a package that are imported when they are first used (PEP 562).

So ``import xennet`` costs next to nothing, and ``xennet.VifLink`` exists all the same. Type
checkers do not follow this: a package repeats its imports under TYPE_CHECKING for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from xennet.moved import moved_name


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for ``package``, whose names are in the modules ``homes``.

    A name that was used once is an ordinary attribute of the package.
    """

    def getattr_(name: str) -> object:
        if name not in homes:
            return moved_name(package, name)
        value = getattr(import_module(homes[name]), name)
        setattr(import_module(package), name, value)
        return value

    def dir_() -> list[str]:
        return sorted({*vars(import_module(package)), *homes})

    return getattr_, dir_
