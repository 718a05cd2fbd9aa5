"""The commands of a host that stays up: what a request asks for, done, and what is answered."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from attrs import define, field, frozen

from xennet.errors import LinkError
from xennet.host.domains import BackendDomain, Guest
from xennet.hostd.command_arguments import Arguments, CommandError
from xennet.hostd.control_socket import Answer
from xennet.hostd.description import (
    FORMAT,
    describe_domain,
    describe_vif,
    domain_name,
    reasons,
)
from xennet.hostd.ends import OTHER, SWITCH
from xennet.hostd.json_lines import Json
from xennet.hostd.live_host import BACKEND_TYPES, AnyDomain, HostedVif, LiveHost, VifRequest
from xennet.interface import HypercallError, OutOfFramesError
from xennet.netback.policy import MAX_QUEUES
from xennet.netfront.kinds import KINDS
from xennet.plugins import PluginError
from xennet.port.base import PortError
from xennet.toolstack.device_model import DeviceModel
from xennet.toolstack.toolstack import Outcome
from xennet.xenstore.errors import SocketError, XsError

#: Seconds that a command may wait at most.
MOST_SECONDS = 600.0
#: Seconds that an attach waits for the vif to connect, if xennet's drivers serve both ends, and
#: that a removal waits: libxl's time limits, one after the other.
_ATTACH_SECONDS, _REMOVE_SECONDS = 20.0, 90.0
#: Most guests and driver domains at a time, and the highest number of a vif.
MOST_DOMAINS, MOST_HANDLE = 1000, 65535
#: Bytes: the least mtu of IPv4, and that of the longest frame.
MIN_MTU, MAX_MTU = 68, 65521
_NS = 1_000_000_000
_MAC = re.compile("([0-9a-f]{2}:){5}[0-9a-f]{2}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

#: What can be wrong with a command that is well formed.
_REFUSALS = (
    SocketError | LinkError | PortError | PluginError | XsError | HypercallError | OutOfFramesError
)


@frozen
class Later:
    """The result of a command that waits: ``ready()`` is not None when there is one; ``late()`` is
    it after ``seconds``."""

    ready: Callable[[], Json | None]
    late: Callable[[], Json]
    seconds: float


@define(eq=False)
class _Waiting:
    later: Later
    until: int
    end_timer: Callable[[], object]
    answer: Answer


@define(eq=False)
class Commands:
    """The commands of ``live``; ``about`` is what ``list`` tells of the process besides.

    :meth:`look` answers those that wait, and has to be called from time to time. ``changed()`` is
    called when a domain was created, or has gone; it may raise SocketError or OSError if the system
    has nothing left for what a domain needs.
    """

    live: LiveHost
    about: Callable[[AnyDomain], Json] = lambda domain: {}
    changed: Callable[[], object] = lambda: None
    directory: str = ""
    _waiting: list[_Waiting] = field(init=False, factory=list)

    def perform(self, command: str, values: Json, answer: Answer) -> None:
        """Carry out a command, and call ``answer`` now or later; nothing is raised."""
        try:
            do = _COMMANDS.get(command)
            if do is None:
                known = ", ".join(_COMMANDS)
                raise CommandError(f"no command {command[:80]!r}; there are {known}")
            result = do(self, Arguments(values))
        except Exception as error:
            answer({"error": _refusal(error)})
            return
        if isinstance(result, Later):
            self._wait(result, answer)
        else:
            answer({"result": result})

    def look(self) -> None:
        """Let go of what has gone, and answer the commands whose result is there."""
        if self.live.look():
            # What the other domains still need, they get with the next change.
            with suppress(SocketError, OSError):
                self.changed()
        if not self._waiting:
            return
        now = self.live.host.machine.run_loop.now
        for waiting in list(self._waiting):
            message = _answer_to(waiting.later, now >= waiting.until)
            if message is not None:
                self._waiting.remove(waiting)
                waiting.end_timer()
                waiting.answer(message)

    def give_up(self) -> None:
        """Answer the commands that still wait: the host ends."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.answer({"error": "the host ends"})

    def _wait(self, later: Later, answer: Answer) -> None:
        loop = self.live.host.machine.run_loop
        limit = round(later.seconds * _NS)
        timer = loop.call_after(limit, 0, lambda: None)  # so that it is looked at then
        self._waiting.append(
            _Waiting(later, loop.now + limit, partial(loop.cancel_timer, timer), answer)
        )

    # -- what arguments name -----------------------------------------------------------------------

    def _domain(self, arguments: Arguments, name: str, default: str | None = None) -> AnyDomain:
        """A domain by its number or its name."""
        text = arguments.word(name, default)
        for domain in self.live.domains:
            if text in (str(domain.domid), domain_name(domain)):
                return domain
        known = ", ".join(f"{one.domid} ({domain_name(one)})" for one in self.live.domains)
        raise CommandError(f"no domain {text!r}; there are {known}"[:1000])

    def _guest(self, arguments: Arguments) -> Guest:
        domain = self._domain(arguments, "domain")
        if not isinstance(domain, Guest):
            raise CommandError(f"domain {domain.domid} has no frontends: it is for backends")
        return domain

    def _vif(self, arguments: Arguments) -> HostedVif:
        """A vif of a guest by its handle or its mac; the only one if none is named."""
        guest = self._guest(arguments)
        name = arguments.word("vif", "")
        own = [hosted for hosted in self.live.vifs.values() if hosted.vif.guest is guest]
        named = [hosted for hosted in own if name.lower() in _names(hosted)]
        if not name and len(own) == 1:
            named = own
        if len(named) == 1:
            return named[0]
        if not own:
            raise CommandError(f"domain {guest.domid} has no vif")
        known = ", ".join(str(hosted.key[1]) for hosted in own)
        what = f"no vif {name!r}" if name else "several vifs, and none is named"
        raise CommandError(f"domain {guest.domid} has {what}; there are {known}"[:1000])

    # -- the commands ------------------------------------------------------------------------------

    def tell(self, arguments: Arguments) -> Json:
        """Everything that there is."""
        arguments.require_no_more()
        domains = []
        for domain in self.live.domains:
            vifs = [one for one in self.live.vifs.values() if one.vif.guest is domain]
            told = describe_domain(self.live, domain) | self.about(domain)
            told["vifs"] = [describe_vif(one) for one in sorted(vifs, key=lambda one: one.key)]
            domains.append(told)
        return {
            "format": FORMAT,
            "directory": self.directory,
            "process": os.getpid(),
            "domains": domains,
        }

    def create(self, arguments: Arguments) -> Json:
        """A guest, or a driver domain."""
        name = arguments.text("name", "")
        driver_domain = arguments.flag("driver_domain")
        kind = arguments.choice("frontend", KINDS, "linux")
        version = arguments.number("grant_version", 1, 2, 1)
        drivers = arguments.choice("drivers", ("xennet", OTHER), "xennet")
        arguments.require_no_more()
        if driver_domain and (kind, version, drivers) != ("linux", 1, "xennet"):
            raise CommandError(
                "a domain for backends has xennet's drivers, and no frontend, drivers or "
                "grant_version of its own"
            )
        domains = list(self.live.domains)
        if name and (not _NAME.fullmatch(name) or name.isdecimal()):
            raise CommandError(
                f"a name has up to 64 letters, digits, _, . and -, not only digits: {name[:80]!r}"
            )
        if any(name == domain_name(domain) for domain in domains):
            raise CommandError(f"there is a domain {name!r} already")
        if len(domains) > MOST_DOMAINS:
            raise CommandError(f"there are {MOST_DOMAINS} domains already")
        if driver_domain:
            made: AnyDomain = self.live.create_driver_domain(name)
        else:
            made = self.live.create_guest(name, kind, version, drivers=drivers != OTHER)
        try:
            self.changed()
        except BaseException:
            self.live.destroy(made)
            raise
        return describe_domain(self.live, made) | self.about(made) | {"vifs": []}

    def attach(self, arguments: Arguments) -> Json | Later:
        """A vif; waits until it is connected. If another program serves an end and no time is given
        it waits as xl does: until the backend is there, if that is xennet's."""
        guest = self._guest(arguments)
        backend = self._domain(arguments, "backend", "0")
        front = arguments.text("front", OTHER if guest.drivers is None else "null:")
        back = arguments.text("back", SWITCH)
        kind = arguments.text("type", "vif")
        by_model = back == OTHER and kind not in ("vif", "vif_ioemu")
        model = DeviceModel(
            arguments.choice(
                "device_model",
                [one.value for one in DeviceModel],
                (DeviceModel.PLUGS if by_model else DeviceModel.NONE).value,
            )
        )
        mac = arguments.text("mac", "").lower() or None
        request = VifRequest(
            guest,
            arguments.number("handle", 0, MOST_HANDLE, self.live.free_handle(guest)),
            front,
            back,
            _require_backends(backend),
            kind,
            model,
            mac,
            arguments.optional_number("mtu", MIN_MTU, MAX_MTU),
            arguments.number("queues", 1, MAX_QUEUES, 1),
        )
        to_connect = OTHER not in (front, back) or arguments.values.get("wait") is not None
        wait = arguments.seconds("wait", MOST_SECONDS, _ATTACH_SECONDS if back != OTHER else 0.0)
        arguments.require_no_more()
        if not guest.domain.running:
            raise CommandError(f"domain {guest.domid} does not run")
        if mac is not None and (not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1):
            raise CommandError(f"{mac[:80]!r} is no address of one interface (00:16:3e:00:00:01)")
        if front != OTHER and guest.drivers is None:
            raise CommandError(
                f"domain {guest.domid} has no drivers of xennet's: front has to be {OTHER!r}"
            )
        if back != OTHER and model is not DeviceModel.NONE:
            raise CommandError(f"a device model has the backend: back has to be {OTHER!r}")
        if back != OTHER and kind not in (*BACKEND_TYPES, "vif_ioemu"):
            known = ", ".join(BACKEND_TYPES)
            raise CommandError(f"xennet's netback serves the types {known}, not {kind[:80]!r}")
        try:
            hosted = self.live.attach(request)
        except ValueError as error:  # a type that names no directory
            raise CommandError(str(error)) from error
        return self._attached(hosted, wait, to_connect)

    def _attached(self, hosted: HostedVif, wait: float, to_connect: bool) -> Json | Later:
        def told() -> Json:
            return describe_vif(hosted) | {"why": reasons(hosted)}

        def ready() -> Json | None:
            outcome = hosted.vif.operation.outcome
            over = hosted.removal is not None or outcome is Outcome.FAILED
            attached = outcome is Outcome.DONE and (hosted.vif.connected or not to_connect)
            return told() if over or attached else None

        return Later(ready, told, wait)

    def detach(self, arguments: Arguments) -> Later:
        """A vif, away; waits until it is gone."""
        hosted = self._vif(arguments)
        force = arguments.flag("force")
        wait = arguments.seconds("wait", MOST_SECONDS, _REMOVE_SECONDS)
        arguments.require_no_more()
        removal = self.live.detach(hosted, force)

        def told() -> Json:
            return {
                "name": hosted.vif.name,
                "outcome": removal.outcome.value,
                "forced": removal.forced,
                "reason": removal.reason,
            }

        def ready() -> Json | None:
            return None if removal.outcome is Outcome.PENDING else told()

        return Later(ready, told, wait)

    def destroy(self, arguments: Arguments) -> Later:
        """A domain, away; waits until it is gone."""
        domain = self._domain(arguments, "domain")
        wait = arguments.seconds("wait", MOST_SECONDS, _REMOVE_SECONDS)
        arguments.require_no_more()
        if domain.domid == 0:
            raise CommandError("domain 0 is the host itself")
        name = domain_name(domain)
        is_gone = self.live.destroy(domain)

        def told() -> Json:
            return {"domid": domain.domid, "name": name, "gone": is_gone()}

        return Later(lambda: told() if is_gone() else None, told, wait)

    def why(self, arguments: Arguments) -> Json:
        """Why a vif passes no traffic."""
        hosted = self._vif(arguments)
        arguments.require_no_more()
        return describe_vif(hosted) | {"why": reasons(hosted)}


def _answer_to(later: Later, over: bool) -> Json | None:
    """The answer to a command that waits, None if there is none yet; ``over``: it has waited long
    enough."""
    try:
        result = later.ready()
        if result is None and over:
            result = later.late()
    except Exception as error:
        return {"error": _refusal(error)}
    return None if result is None else {"result": result}


def _refusal(error: Exception) -> str:
    """What is answered to a command that raised ``error``. A fault of xennet's own is told like
    others: it is no reason to end a host with all that runs on it."""
    if isinstance(error, CommandError | _REFUSALS):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return f"out of memory: {error}"
    return f"internal error: {type(error).__name__}: {error}"


def _names(hosted: HostedVif) -> tuple[str, str, str]:
    """The texts that name a vif of a guest."""
    return str(hosted.key[1]), hosted.vif.name, hosted.vif.config.mac


def _require_backends(domain: AnyDomain) -> BackendDomain:
    if not isinstance(domain, BackendDomain):
        raise CommandError(f"domain {domain.domid} is a guest, it has no backends")
    return domain


_COMMANDS: dict[str, Callable[[Commands, Arguments], Json | Later]] = {
    "list": Commands.tell,
    "create": Commands.create,
    "attach": Commands.attach,
    "detach": Commands.detach,
    "destroy": Commands.destroy,
    "why": Commands.why,
}
