"""A driver of your own, on xennet.interface alone: what makes it, and the end of a vif that it is.

``module:factory`` names what makes it: ``factory(hv, node)``, where ``hv`` is the driver's domain
(xennet.Hypervisor) and ``node`` the directory of its device there ("device/vif/0" of a netfront,
"backend/vif/1/0" of a netback), which exists. What that returns is kept until the end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module

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
        known = f"{os.path.basename(module).removesuffix('.py')}:{name}"
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
