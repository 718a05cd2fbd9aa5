"""A driver of your own, on xennet.interface alone: what makes it, and the end of a vif that it is.

``module:factory`` names what makes it: ``factory(hv, node)``, where ``hv`` is the driver's domain
(xennet.Hypervisor) and ``node`` the directory of its device there ("device/vif/0" of a netfront,
"backend/vif/1/0" of a netback), which exists. What that returns is kept until the end.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

from attrs import define

from xennet.host.domains import PluggedVif
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.interface import Hypervisor
from xennet.vif.end import BaseEnd

Factory = Callable[[Hypervisor, str], object]


class OwnDriverError(Exception):
    """There is no such factory; the message says why."""


@define(eq=False)
class OwnEnd(BaseEnd):
    """The end of a vif that ``driver`` serves, of which nothing is known but that it is there."""

    driver: object


def own_frontend(factory: Factory) -> Callable[[PluggedVif, GuestKernel], OwnEnd]:
    """What a guest loads as its drivers, so that ``factory`` makes its frontends."""
    return lambda vif, kernel: OwnEnd(factory(kernel, vif.paths.frontend_node))


def own_backend(factory: Factory) -> Callable[[PluggedVif, GuestKernel], OwnEnd]:
    """What domain 0 loads as its drivers, so that ``factory`` makes its backends."""
    return lambda vif, kernel: OwnEnd(factory(kernel, vif.paths.backend_node))


def is_own(driver: str) -> bool:
    """Whether the name of a driver names a factory ("module:factory")."""
    return ":" in driver


def load_factory(spec: str) -> Factory:
    """The factory that ``spec`` names ("module:name"); modules are looked for in the working
    directory too. Raises OwnDriverError, also for one that does not take ``(hv, node)``."""
    module, colon, name = spec.partition(":")
    if not (module and colon and name):
        raise OwnDriverError(f"{spec!r} is not module:factory")
    if module.endswith(".py"):
        known = f"{Path(module).stem}:{name}"
        raise OwnDriverError(f"{spec}: a module has no .py; in its directory it is {known}")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    try:
        with redirect_stdout(sys.stderr):
            found = getattr(import_module(module), name)
    except (Exception, SystemExit) as error:
        raise OwnDriverError(f"{spec}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise OwnDriverError(f"{spec} is a {type(found).__name__} and cannot be called")
    from inspect import signature  # for drivers of one's own alone

    try:
        signature(found).bind("hv", "node")
    except ValueError:
        pass  # built in, without a signature: the call will show it
    except TypeError as error:
        raise OwnDriverError(f"{spec} is called as factory(hv, node): {error}") from error
    factory: Factory = found
    return factory


def error_and_place(error: BaseException) -> str:
    """The error, and where it was raised: in the innermost function that is not xennet's own (nor
    of a library, if there is another), with its file and line; in one of xennet's if all are."""
    frames = traceback.extract_tb(error.__traceback__)
    others = [frame for frame in frames if not _is_below(frame, _XENNET)]
    mine = [frame for frame in others if not _is_below(frame, *_LIBRARIES)]
    where = ""
    if others:
        last = (mine or others)[-1]
        where = f" in {last.name}, {_shown(last.filename)}:{last.lineno}"
    elif frames:
        where = f" in {frames[-1].name}"
    return f"{type(error).__name__}: {error}{where}"


def is_raised_by_own_driver(error: BaseException) -> bool:
    """Whether ``error`` came out of a delivery of a run loop, and of code in it that is neither
    xennet's nor a library's."""
    in_delivery = any(
        note.startswith("while delivering") for note in getattr(error, "__notes__", ())
    )
    frames = traceback.extract_tb(error.__traceback__)
    return in_delivery and any(not _is_below(frame, _XENNET, *_LIBRARIES) for frame in frames)


_XENNET = str(Path(__file__).parents[1])
#: Where Python's own modules are, and those that are installed.
_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))


def _is_below(frame: traceback.FrameSummary, *folders: str) -> bool:
    """Whether the code of ``frame`` is of a file in ``folders``, or of none ("<string>")."""
    name = frame.filename
    return name.startswith(("<", *(folder + os.sep for folder in folders)))


def _shown(name: str) -> str:
    """The file ``name`` as seen from the working directory, if it is below that."""
    path, here = Path(name), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else name
