"""The backend's end of a vif: what xen-netback does around its rings.

A :class:`Vif` is the driver of one backend directory: it advertises features, reads the frontend's
keys, and connects a :class:`~xennet.netback.queue.Queue` for each pair of rings.
xennet.xenbus.backend decides when; the policy (xennet.netback.policy) has what differs between
implementations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from xennet.flow.hash_config import HashConfig
from xennet.flow.steering import Steering
from xennet.frames import Endpoint
from xennet.interface import HypercallError, Hypervisor
from xennet.netback.control_ring import ControlRing
from xennet.netback.drain import Carrier
from xennet.netback.keys import (
    CtrlKeys,
    FrontendFeatures,
    FrontendKeys,
    Negotiated,
    blame,
    read_headroom,
    read_rate,
)
from xennet.netback.policy import LINUX, BackendPolicy, VifOptions
from xennet.netback.queue import Queue, VifContext
from xennet.netback.stage import TxStage
from xennet.netback.verdict import FrontendError
from xennet.netback.vif_config import C_HASH, C_HEADROOM, C_MCAST_FILTER, new_vif_config
from xennet.ring import RingOverflowError
from xennet.vif.counters import BackendCounters, total
from xennet.vif.ring_events import tell_given_up
from xennet.xenbus.backend import Advertisement
from xennet.xenbus.device import DEVICE_ERRORS, DeviceWatch, XenbusDevice
from xennet.xenbus.paths import VifDirectories, vif_name


class Vif:
    """A backend vif.

    ``host`` gives the packets for the guest and takes those from it; a new ``host`` counts from the
    next connection on. ``options`` (those of the policy by default) are what this vif advertises.
    ``stage`` is shared with the other vifs of the domain if they are given the same. ``queues`` is
    empty while disconnected. ``error`` is the fault for which the frontend was disabled, None once
    it has connected again. ``mac`` is the guest's address as the toolstack gave it.
    ``queue_counters`` run over all connections.
    """

    def __init__(
        self,
        hv: Hypervisor,
        host: Endpoint,
        policy: BackendPolicy = LINUX,
        options: VifOptions | None = None,
        stage: TxStage | None = None,
    ) -> None:
        self.hv = hv
        self.host = self._end = host
        self.policy = policy
        self.options = policy.options if options is None else options
        self.stage = TxStage(hv) if stage is None else stage
        self.queue_counters: list[BackendCounters] = []
        self.queues: list[Queue] = []
        self.config = new_vif_config()
        self.hash_config = HashConfig()
        self.mac = bytes(6)
        self.error: FrontendError | None = None
        self._carrier = Carrier(self._carrier_changed)
        self._keys: FrontendKeys | None = None
        self._dev: XenbusDevice | None = None
        self._watches: list[DeviceWatch] = []
        self._steering: Steering | None = None
        self._ctrl: ControlRing | None = None

    def __repr__(self) -> str:
        return f"<Vif {len(self.queues)} queues, carrier {'on' if self.carrier else 'off'}>"

    @property
    def carrier(self) -> bool:
        """Whether packets can flow."""
        return self._carrier.up

    @property
    def disabled(self) -> bool:
        """Whether the frontend broke the protocol and has not connected again since."""
        return self._carrier.disabled

    @property
    def counters(self) -> BackendCounters:
        """The sums over all queues and connections."""
        return total(self.queue_counters)

    @property
    def queue(self) -> Queue | None:
        """The first queue; None while disconnected."""
        return self.queues[0] if self.queues else None

    # -- life (xennet.xenbus.backend.BackendDriver) ------------------------------------------------

    def probe(self, dev: XenbusDevice) -> Advertisement:
        return self.policy.advertise(self.options)

    def connect(self, dev: XenbusDevice) -> None:
        negotiated = self.policy.read_negotiated(dev, self.options)
        try:
            features = self._connect(dev, negotiated)
            self.error = None
            self._carrier.connect()
            self._end.negotiated(features.offload(features.headroom))
        except Exception:
            self.disconnect(dev)
            raise
        # For requests that are on the ring already no event will come.
        self.kick()

    def _connect(self, dev: XenbusDevice, negotiated: Negotiated) -> FrontendFeatures:
        self._dev = dev
        self._end = self.host
        self.mac = negotiated.mac
        # What an earlier connection set is gone with it (xenvif_mcast_addr_list_free, hash.c).
        self.config = new_vif_config()
        self.hash_config = HashConfig(self._hash_changed)
        if self.options.rate_limit:
            self._watches.append(dev.watch("rate", self._rate_changed))
        if self.options.multicast:
            self._watch_multicast(dev)
        keys = self._keys = self.policy.read_keys(dev, self.options, negotiated.queues)
        self.config[C_HEADROOM] = keys.features.headroom
        name = vif_name(dev.otherend_id, dev.nodename)
        side = VifContext(
            hv=self.hv,
            otherend_id=dev.otherend_id,
            name=name,
            frontend=dev.otherend.path,
            policy=self.policy,
            options=self.options,
            features=keys.features,
            config=self.config,
            stage=self.stage,
            carrier=self._carrier,
            on_fatal=self._fatal,
        )
        while len(self.queue_counters) < len(keys.queues):
            self.queue_counters.append(BackendCounters())
        if keys.ctrl is not None:
            self._ctrl = self._connect_ctrl(dev.otherend_id, keys.ctrl, len(keys.queues), name)
        ends = self._ends(len(keys.queues))
        each = zip(keys.queues, ends, self.queue_counters, strict=False)
        for number, (queue_keys, end, counters) in enumerate(each):
            self.queues.append(Queue(side, queue_keys, end, counters, negotiated.rate, number))
        return keys.features

    def _connect_ctrl(
        self, otherend_id: int, keys: CtrlKeys, queues: int, name: str
    ) -> ControlRing:
        try:
            return ControlRing(
                self.hv,
                otherend_id,
                keys.ring_ref,
                keys.port,
                self.hash_config,
                on_fatal=self._fatal,
                counters=self.queue_counters[0],
                queues=queues,
                static_grefs=self.options.static_grefs,
                late_eoi=self.options.late_eoi,
                vif=name,
            )
        except RingOverflowError as impossible:
            raise blame(keys, "ctrl-ring-ref", keys.ring_ref, impossible) from impossible
        except HypercallError as refused:
            if refused.op.startswith("EVTCHNOP"):
                raise blame(keys, "event-channel-ctrl", keys.port, refused) from refused
            raise blame(keys, "ctrl-ring-ref", keys.ring_ref, refused) from refused

    def _ends(self, queues: int) -> list[Endpoint]:
        """The host side of each queue; with one queue and no hashing it is the host itself."""
        if queues == 1 and self._ctrl is None:
            return [self._end]
        self._steering = Steering(self._end, queues, self.hash_config, self._kick_queue)
        return self._steering.ends

    def disconnect(self, dev: XenbusDevice) -> None:
        self._carrier.disconnect()
        while self._watches:
            self._watches.pop().cancel()
        while self.queues:
            self.queues.pop().disconnect()
        if self._ctrl is not None:
            self._ctrl.disconnect()
            self._ctrl = None
        if self._steering is not None:
            self.queue_counters[0].lost += self._steering.drop_all()
            self._steering = None
        self._keys = self._dev = None

    def remove(self, dev: XenbusDevice) -> None:
        """Do nothing: everything is released by disconnect."""

    def reconfigure(self, dev: XenbusDevice) -> None:
        """Read the frontend's xdp-headroom again (Linux read_xenbus_frontend_xdp)."""
        if self._keys is None or not self.options.xdp_headroom:
            return
        headroom = read_headroom(dev.otherend)
        self.config[C_HEADROOM] = headroom
        self._end.negotiated(self._keys.features.offload(headroom))

    # -- what is told of it (xennet.vif.end.VifEnd) ------------------------------------------------

    def reasons(self, seen: VifDirectories) -> Iterator[str]:
        frontend, copies = seen.frontend, "request-rx-copy"
        # Linux looks at no feature of a frontend that does not (xenbus.c, read_xenbus_vif_flags).
        linux = self.policy.name == LINUX.name
        if self.queues and linux and not frontend.optional_unsigned(copies):
            yield (
                "the frontend does not ask for copies, so none of its features counts and frames "
                f"for it have to fit a page: {frontend.node(copies)} = "
                f'"{frontend.optional_text(copies)}"'
            )
        for number, queue in enumerate(self.queues):
            for reason in queue.reasons(seen.backend):
                yield f"queue {number} of {seen.paths.name}{reason}"

    def remarks(self) -> tuple[str, ...]:
        return ()

    # -- while connected ---------------------------------------------------------------------------

    def kick(self) -> None:
        """Kick all queues: the host may have packets for the guest, or room for more from it."""
        for queue in self.queues:
            queue.kick()

    def _kick_queue(self, number: int) -> None:
        # While they are being connected there are fewer than will be.
        if number < len(self.queues):
            self.queues[number].kick()

    def _fatal(self, error: FrontendError) -> None:
        # Linux keeps the state Connected: the frontend learns nothing, its packets stop.
        self.error = error
        tell_given_up(
            self.hv, "frontend", error.ring, error.index, error.raw, error.rule, error.text
        )
        for queue in self.queues:
            queue.stop()
        self._carrier.disable()

    def _carrier_changed(self, up: bool) -> None:
        if self._dev is not None and self.options.publish_carrier:
            # The directory may be gone, and must not come back.
            with suppress(*DEVICE_ERRORS):
                self._dev.publish([("carrier", int(up))])
        # There are frames to be dropped now, or no more.
        self.kick()

    def _rate_changed(self) -> None:
        if self._dev is not None:
            rate = read_rate(self._dev.own)
            for queue in self.queues:
                queue.change_rate(rate)

    def _watch_multicast(self, dev: XenbusDevice) -> None:
        if self.options.dynamic_multicast:
            node = "request-multicast-control"
            self._watches.append(dev.watch_otherend(node, self._multicast_changed))
        else:
            self._multicast_changed()

    def _multicast_changed(self) -> None:
        if self._dev is not None:
            wanted = self._dev.otherend.optional_unsigned("request-multicast-control")
            self.config[C_MCAST_FILTER] = int(wanted != 0)

    def _hash_changed(self) -> None:
        # Without types nothing is hashed, and nothing is told.
        self.config[C_HASH] = self.hash_config.algorithm if self.hash_config.active else 0
