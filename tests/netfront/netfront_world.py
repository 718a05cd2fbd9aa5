"""A frontend device on the minimal machine; its backend is whatever the test writes."""

from __future__ import annotations

from vif_peers import GUEST, HOST, Stack

from xennet.netfront.device import Netfront
from xennet.netfront.kinds import LINUX, FrontendKind
from xennet.netfront.options import DEFAULTS, NetfrontOptions
from xennet.testing.minimal_hypervisor import MinimalMachine
from xennet.xenbus.device import StoreValue
from xennet.xenbus.frontend import Frontend

FE = "/local/domain/1/device/vif/0"
BE = "/local/domain/0/backend/vif/1/0"

#: The features of Linux 6.1 netback.
LINUX_FEATURES: dict[str, StoreValue] = {
    "feature-sg": 1,
    "feature-gso-tcpv4": 1,
    "feature-gso-tcpv6": 1,
    "feature-ipv6-csum-offload": 1,
    "feature-rx-copy": 1,
    "feature-xdp-headroom": 1,
    "feature-rx-flip": 0,
    "feature-multicast-control": 1,
    "feature-dynamic-multicast-control": 1,
    "feature-split-event-channels": 0,
    "multi-queue-max-queues": 1,
    "feature-ctrl-ring": 1,
}


class FrontendWorld:
    """A frontend with a backend's directory.

    ``features``: nodes of the backend, beside those of LINUX_FEATURES (None removes one). ``own``:
    nodes that the toolstack wrote into the frontend's directory. ``writes``: (name, value) of
    everything that the frontend wrote into its directory, in order.
    """

    def __init__(
        self,
        kind: FrontendKind = LINUX,
        options: NetfrontOptions = DEFAULTS,
        features: dict[str, StoreValue | None] | None = None,
        own: dict[str, StoreValue] | None = None,
    ) -> None:
        self.machine = MinimalMachine()
        self.guest, self.host = self.machine.domain(GUEST), self.machine.domain(HOST)
        self.stack = Stack()
        for name, value in {**LINUX_FEATURES, **(features or {}), "state": 2}.items():
            if value is not None:
                self.set(name, value)
        nodes = {"backend": BE, "backend-id": 0, "state": 1, "mac": "00:16:3e:00:00:01"}
        for name, value in {**nodes, **(own or {})}.items():
            self.guest.store.write(f"{FE}/{name}", value)
        self.writes: list[tuple[str, bytes]] = []
        self._record()
        self.netfront = Netfront(self.guest, self.stack, kind, options)
        self.frontend = Frontend(self.guest, "device/vif/0", self.netfront, rules=kind.rules)

    def _record(self) -> None:
        write = self.guest.store.write

        def recorded(path: str, value: bytes | str | int) -> None:
            write(path, value)
            raw = value if isinstance(value, bytes) else str(value).encode()
            self.writes.append((path.partition("vif/0/")[2], raw))

        self.guest.store.write = recorded  # type: ignore[method-assign]

    def set(self, name: str, value: StoreValue) -> None:
        """The backend writes one of its nodes."""
        self.host.store.write(f"{BE}/{name}", value)

    def set_state(self, state: StoreValue) -> None:
        """The backend shows a state, and all that follows happens."""
        self.set("state", state)
        self.machine.run()

    def start(self) -> FrontendWorld:
        """Load the driver and let it come to rest; this world. A kind that closes first sees the
        backend close and start again."""
        self.frontend.start()
        self.machine.run()
        for frontend, backend in ((5, 5), (6, 6), (1, 2)):
            if self.state == frontend:
                self.set_state(backend)
        return self

    def connect(self) -> FrontendWorld:
        """Load the driver, and the backend connects; this world."""
        self.start()
        self.set_state(4)
        return self

    @property
    def published(self) -> list[str]:
        """Names of the nodes in the frontend's directory, those in directories with their path."""
        return [node[len(FE) + 1 :] for node in self.machine.nodes if node.startswith(f"{FE}/")]

    @property
    def keys(self) -> dict[str, str]:
        """The values of the frontend's nodes."""
        return {name: self.machine.nodes[f"{FE}/{name}"].decode() for name in self.published}

    @property
    def state(self) -> int:
        """The frontend's state in the store."""
        return int(self.machine.nodes[f"{FE}/state"])

    def holds_nothing(self) -> bool:
        """Whether the guest has neither ports nor pages nor grants."""
        grants = self.guest.grants
        return not (self.guest.ports or self.machine.frames or len(grants.free) != 2048 - 8)
