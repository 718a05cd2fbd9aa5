"""The toolstack: creates domains in the store, attaches and detaches vifs, as ``xl`` and libxl do.

A command is a chain of events (a transaction, a wait for the backend's state, a hotplug script, a
transaction). Its method returns at once, with a :class:`VifOperation` that has the outcome later.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import Enum

from attrs import define, field

from xennet.abi.xenbus import XenbusState
from xennet.interface import StoreClient, StoreTransaction
from xennet.toolstack.device_model import DeviceModelWait, model_directory
from xennet.toolstack.devstate import After, DeviceStateWait, WaitResult
from xennet.toolstack.domain_nodes import (
    DomainConfig,
    build_nodes,
    console_nodes,
    console_paths,
    skeleton_nodes,
)
from xennet.toolstack.hotplug import HotplugAction, HotplugScript
from xennet.toolstack.nodelist import Clear, Node, apply, remove_if_there, remove_with_empty_parents
from xennet.toolstack.vif_nodes import AttachedVif, VifConfig, vif_nodes
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.paths import VifPaths
from xennet.xenbus.state import parse_state
from xennet.xenstore.errors import XsError
from xennet.xenstore.path import domain_path

_SECOND = 1_000_000_000
#: libxl's LIBXL_INIT_TIMEOUT, LIBXL_DESTROY_TIMEOUT and LIBXL_HOTPLUG_TIMEOUT, in ns.
INIT_TIMEOUT = 10 * _SECOND
DESTROY_TIMEOUT = 10 * _SECOND
HOTPLUG_TIMEOUT = 40 * _SECOND

#: Backend states that end the wait of an attach: its features are in the store, or more.
_ATTACHED = frozenset({XenbusState.InitWait, XenbusState.Connected})
_CLOSED = frozenset({XenbusState.Closed})


class Outcome(Enum):
    """The state of a command."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


@define(eq=False)
class VifOperation:
    """One attach or detach.

    ``reason`` tells why it is FAILED. ``forced``: a removal did not wait for the backend.
    ``on_done(operation)`` is called at the end.
    """

    paths: VifPaths
    outcome: Outcome = Outcome.PENDING
    reason: str = ""
    forced: bool = False
    on_done: Callable[[VifOperation], None] | None = None

    @classmethod
    def refused(
        cls, paths: VifPaths, reason: str, on_done: Callable[[VifOperation], None] | None
    ) -> VifOperation:
        """An operation that is FAILED at once; nothing was changed."""
        operation = cls(paths, on_done=on_done)
        operation.finish(reason)
        return operation

    def finish(self, reason: str = "") -> None:
        """End the operation: FAILED if there is a ``reason``, else DONE."""
        self.reason = reason
        self.outcome = Outcome.FAILED if reason else Outcome.DONE
        if self.on_done is not None:
            self.on_done(self)


@define(eq=False, repr=False)
class Toolstack:
    """The commands, over ``store``, a connection of a privileged domain.

    ``introduce(domid)`` introduces a domain to the store (XS_INTRODUCE), ``kill(domid)`` destroys
    it in the hypervisor. ``script`` runs hotplug scripts (None: nobody does), ``after`` is the
    clock for time limits (None: there are none).
    """

    store: StoreClient
    introduce: Callable[[int], None] | None = None
    kill: Callable[[int], None] | None = None
    script: HotplugScript | None = None
    after: After | None = None
    _tokens: int = field(init=False, default=0)
    _plugged: dict[tuple[int, int], AttachedVif] = field(init=False, factory=dict)
    _models: dict[tuple[int, int], DeviceModelWait] = field(init=False, factory=dict)

    # -- domains -----------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<Toolstack {len(self._plugged)} vifs plugged>"

    def init_dom0(self) -> None:
        """Write domain 0's own nodes, once after boot (xen-init-dom0)."""
        dom0 = domain_path(0)
        apply(self.store, [Node(f"{dom0}/domid", "0"), Node(f"{dom0}/name", "Domain-0")])

    def create_domain(self, config: DomainConfig) -> None:
        """Write the nodes and the console of a PV domain, and introduce it."""
        model = Node(f"{config.libxl}/dm-version", "qemu_xen")
        self._write(skeleton_nodes(config))
        apply(self.store, [model])
        self._write(build_nodes(config))
        if self.introduce is not None:
            self.introduce(config.domid)
        apply(self.store, [model])
        self._write(console_nodes(config))

    def destroy_domain(self, domid: int, on_done: Callable[[], None] | None = None) -> None:
        """Remove a domain's devices by force, then its nodes, then the domain
        (libxl_domain_destroy)."""
        self.store.transact(lambda tx: _remove_all(tx, console_paths(domid)))
        handles = NodeDirectory(self.store, f"/libxl/{domid}/device/vif").names()
        # Names that are no numbers are no devices of libxl's.
        numbers = {int(handle): None for handle in handles if handle.isdecimal()}
        numbers |= dict.fromkeys(vif.handle for vif in self.vifs(domid))
        devices = [self.known_paths(domid, handle) for handle in numbers]
        left = len(devices)

        def one_done(_operation: VifOperation) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self._forget_domain(domid, on_done)

        for paths in devices:
            _Removal(self, VifOperation(paths, forced=True, on_done=one_done)).request()
        if not devices:
            self._forget_domain(domid, on_done)

    # -- vifs --------------------------------------------------------------------------------------

    def attach_vif(
        self,
        domid: int,
        handle: int,
        config: VifConfig,
        *,
        backend_domid: int = 0,
        limit_ns: int | None = INIT_TIMEOUT,
        on_done: Callable[[VifOperation], None] | None = None,
    ) -> VifOperation:
        """Attach vif number ``handle`` to domain ``domid`` (xl network-attach).

        The operation is DONE when the hotplug script has succeeded. It is FAILED if the device
        exists already, if the backend does not answer within ``limit_ns`` (None: however long that
        takes) or goes away, or if the script fails. A failed device stays in the store.
        """
        vif = AttachedVif(handle, config, backend_domid)
        paths = vif.paths(domid)
        if NodeDirectory(self.store, paths.libxl).exists():
            return VifOperation.refused(paths, f"{paths.libxl}: the device exists already", on_done)
        return self.plug(vif, domid, limit_ns=limit_ns, on_done=on_done)

    def plug(
        self,
        vif: AttachedVif,
        domid: int,
        *,
        before: Callable[[StoreTransaction], None] | None = None,
        limit_ns: int | None = INIT_TIMEOUT,
        on_done: Callable[[VifOperation], None] | None = None,
    ) -> VifOperation:
        """As :meth:`attach_vif`, but without a look at what exists; ``before(tx)`` begins its
        transaction."""
        operation = VifOperation(vif.paths(domid), on_done=on_done)

        def write(tx: StoreTransaction) -> None:
            if before is not None:
                before(tx)
            apply(tx, vif_nodes(operation.paths, vif.config))

        self.store.transact(write)
        self._plugged[domid, vif.handle] = vif

        def answered(result: WaitResult) -> None:
            if result is WaitResult.REACHED:
                self.hotplug(HotplugAction.ONLINE, operation.paths, operation.finish)
            else:
                operation.finish(f"backend did not come up: {result.value}")

        self.wait(operation.paths, _ATTACHED, limit_ns, answered)
        return operation

    def expect_vif(
        self,
        domid: int,
        handle: int,
        config: VifConfig,
        *,
        backend_domid: int = 0,
        on_done: Callable[[VifOperation], None] | None = None,
    ) -> VifOperation:
        """Note a vif whose nodes a device model makes, in place of attaching it
        (DeviceModel.PLUGS). If the backend is not there yet, a state that an earlier device model
        has left is removed.

        The operation is DONE when the device model runs. It is FAILED if the device exists already,
        or if it is detached before.
        """
        vif = AttachedVif(handle, config, backend_domid)
        paths = vif.paths(domid)
        if (
            self.plugged(domid, handle) is not None
            or NodeDirectory(self.store, paths.libxl).exists()
        ):
            return VifOperation.refused(paths, f"{paths.libxl}: the device exists already", on_done)
        operation = VifOperation(paths, on_done=on_done)
        self._plugged[domid, handle] = vif
        if not NodeDirectory(self.store, paths.backend).exists():
            remove_if_there(self.store, f"{model_directory(paths)}/state")
        self.await_model(paths, operation.finish)
        return operation

    def await_model(self, paths: VifPaths, done: Callable[[str], None]) -> None:
        """Call ``done("")`` when the device model of a vif runs; ``done(problem)`` when the vif is
        removed before."""
        self._tokens += 1
        key = paths.frontend_domid, paths.handle

        def ended(problem: str) -> None:
            del self._models[key]
            done(problem)

        wait = self._models[key] = DeviceModelWait(self.store, paths, f"4/{self._tokens:x}", ended)
        wait.start()

    def detach_vif(
        self,
        domid: int,
        handle: int,
        *,
        force: bool = False,
        on_done: Callable[[VifOperation], None] | None = None,
    ) -> VifOperation:
        """Detach a vif (xl network-detach): ask the backend, wait for Closed, then remove all
        nodes.

        With ``force``, and after 10 s without an answer, the frontend's directory is removed first.
        """
        paths = self.known_paths(domid, handle)
        operation = VifOperation(paths, forced=force, on_done=on_done)
        _Removal(self, operation).request()
        return operation

    def replug_vif(
        self, domid: int, handle: int, on_done: Callable[[VifOperation], None] | None = None
    ) -> VifOperation:
        """Run the online script of a vif again, as udev does when a backend driver is bound again.

        The backend waits for that: hotplug-status was removed when the driver was unbound.
        """
        operation = VifOperation(self.known_paths(domid, handle), on_done=on_done)
        self.hotplug(HotplugAction.ONLINE, operation.paths, operation.finish)
        return operation

    def plugged(self, domid: int, handle: int) -> AttachedVif | None:
        """The vif as it was attached; None if this toolstack attached none, or removes it."""
        return self._plugged.get((domid, handle))

    def vifs(self, domid: int) -> tuple[AttachedVif, ...]:
        """All vifs of a domain, for :func:`xennet.toolstack.relocation.restore_domain`."""
        return tuple(vif for (owner, _), vif in sorted(self._plugged.items()) if owner == domid)

    # -- what commands are made of -----------------------------------------------------------------

    def known_paths(self, domid: int, handle: int) -> VifPaths:
        """The directories of a vif.

        The backend domain of a vif that another toolstack attached is looked up in the copy below
        /libxl; without a copy it is domain 0.
        """
        own = self.plugged(domid, handle)
        if own is not None:
            return own.paths(domid)
        unknown = VifPaths(domid, handle)
        with suppress(XenbusError, ValueError):
            backend = NodeDirectory(self.store, unknown.libxl).text("backend")
            _, _, _, backend_domid, _, backend_type, *_ = backend.split("/")
            return VifPaths(domid, handle, int(backend_domid), backend_type)
        return unknown

    def forget_vif(self, paths: VifPaths) -> None:
        """Forget a vif that is being removed, or has been."""
        key = paths.frontend_domid, paths.handle
        self._plugged.pop(key, None)
        if (wait := self._models.get(key)) is not None:
            wait.end("the vif was removed before its device model ran")

    def wait(
        self,
        paths: VifPaths,
        wanted: frozenset[XenbusState],
        limit_ns: int | None,
        done: Callable[[WaitResult], None],
    ) -> None:
        """Wait for the backend of ``paths`` to show one of the states ``wanted``, at most
        ``limit_ns`` (None: however long that takes)."""
        self._tokens += 1
        node, token = f"{paths.backend}/state", f"3/{self._tokens:x}"
        wait = DeviceStateWait(self.store, node, token, wanted, done)
        wait.start(None if limit_ns is None else self.after, limit_ns or 0)

    def hotplug(self, action: HotplugAction, paths: VifPaths, done: Callable[[str], None]) -> None:
        """Run the hotplug script of a vif, if the backend names one. Calls ``done(problem)``, ""
        for none."""
        backend = NodeDirectory(self.store, paths.backend)
        if self.script is None or not backend.optional_text("script"):
            done("")
            return
        pending = True

        def once(problem: str) -> None:
            nonlocal pending
            if pending:
                pending = False
                done(problem)

        self.script.run(action, paths, once)
        if self.after is not None:
            self.after(HOTPLUG_TIMEOUT, lambda: once("hotplug script did not end in 40 s"))

    def _write(self, nodes: list[Node | Clear]) -> None:
        self.store.transact(lambda tx: apply(tx, nodes))

    def _forget_domain(self, domid: int, on_done: Callable[[], None] | None) -> None:
        dom = domain_path(domid)
        vm = NodeDirectory(self.store, dom).optional_text("vm")
        for path in (vm, dom, f"/libxl/{domid}", f"{dom}/hvmloader"):
            if path:
                remove_if_there(self.store, path)
        if self.kill is not None:
            self.kill(domid)
        if on_done is not None:
            on_done()


@define(eq=False, repr=False)
class _Removal:
    """One removal: request, wait, script, removal of the nodes (libxl__initiate_device_remove)."""

    toolstack: Toolstack
    operation: VifOperation

    def request(self) -> None:
        """Take the device offline and ask its backend to close."""
        self.toolstack.forget_vif(self.operation.paths)  # nobody may move it any more
        if self.toolstack.store.transact(self._ask):
            self.toolstack.wait(self.operation.paths, _CLOSED, DESTROY_TIMEOUT, self._answered)
        else:
            self._unplug("")

    def _ask(self, tx: StoreTransaction) -> bool:
        paths = self.operation.paths
        if self.operation.forced:
            remove_with_empty_parents(tx, paths.frontend)
        try:
            state = parse_state(tx.read(f"{paths.backend}/state"))
        except XsError:
            return False
        tx.write(f"{paths.backend}/online", "0")
        if state != XenbusState.Closed:
            tx.write(f"{paths.backend}/state", str(int(XenbusState.Closing)))
        return True

    def _answered(self, result: WaitResult) -> None:
        if result is not WaitResult.TIMED_OUT:
            self.toolstack.hotplug(HotplugAction.OFFLINE, self.operation.paths, self._unplug)
        elif not self.operation.forced:
            self.operation.forced = True
            self.request()
        else:
            self._unplug("backend did not close, not even without its frontend")

    def _unplug(self, problem: str) -> None:
        paths = self.operation.paths
        directories = (paths.frontend, paths.libxl, paths.backend)
        self.toolstack.store.transact(lambda tx: _remove_all(tx, directories))
        self.toolstack.forget_vif(paths)
        self.operation.finish(problem)


def _remove_all(tx: StoreTransaction, paths: tuple[str, ...]) -> None:
    for path in paths:
        remove_with_empty_parents(tx, path)
