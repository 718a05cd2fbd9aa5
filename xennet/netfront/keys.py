"""The keys that a frontend publishes in its directory, and old ones that it has to remove."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from attrs import frozen

from xennet.netfront.kinds import KINDS, FrontendKind
from xennet.netfront.options import NetfrontOptions
from xennet.netfront.queue import Queue
from xennet.xenbus.device import StoreValue
from xennet.xenbus.nodes import NodeDirectory

Key = tuple[str, StoreValue]

_QUEUE_DIRECTORY = re.compile(r"queue-\d+")
_RING_KEYS = ("tx-ring-ref", "rx-ring-ref", "event-channel", "event-channel-tx", "event-channel-rx")
_CONTROL_KEYS = ("ctrl-ring-ref", "event-channel-ctrl")
_COUNT = "multi-queue-num-queues"
#: All keys that some frontend publishes; other nodes in the directory are the toolstack's.
_OURS = {*_RING_KEYS, *_CONTROL_KEYS, _COUNT, "xdp-headroom"} | {
    name for kind in KINDS.values() for name, _ in kind.features
}


@frozen
class FrontendKeys:
    """The keys to publish.

    ``count``: the backend knows of several queues. ``control``: reference and port of the control
    ring, if there is one.
    """

    kind: FrontendKind
    options: NetfrontOptions
    queues: Sequence[Queue]
    count: bool
    control: tuple[int, int] | None

    def keys(self) -> list[Key]:
        """All keys but xdp-headroom, in the order of the kind.

        Those of a queue are flat if it is the only one, else in ``queue-N`` (xen/io/netif.h,
        "Multiple transmit and receive queues").
        """
        return [key for section in self.kind.sections for key in _SECTIONS[section](self)]

    def _count(self) -> list[Key]:
        n = len(self.queues)
        return [(_COUNT, n)] if self.count and (n > 1 or self.kind.counts_one) else []

    def _rings(self) -> list[Key]:
        if len(self.queues) == 1:
            return self._ring(self.queues[0], "")
        return [
            key for n, queue in enumerate(self.queues) for key in self._ring(queue, f"queue-{n}/")
        ]

    def _ring(self, queue: Queue, where: str) -> list[Key]:
        keys: list[Key] = []
        for name in self.kind.ring_keys:
            if name != "event-channel":
                ref = queue.tx_ring_ref if name == "tx-ring-ref" else queue.rx_ring_ref
                keys.append((where + name, ref))
            elif queue.tx_port == queue.rx_port:
                keys.append((where + name, queue.tx_port))
            else:
                keys.append((f"{where}event-channel-tx", queue.tx_port))
                keys.append((f"{where}event-channel-rx", queue.rx_port))
        return keys

    def _features(self) -> list[Key]:
        values = ((name, value(self.options)) for name, value in self.kind.features)
        return [(name, value) for name, value in values if value is not None]

    def _control(self) -> list[Key]:
        return list(zip(_CONTROL_KEYS, self.control, strict=True)) if self.control else []


_SECTIONS: dict[str, Callable[[FrontendKeys], list[Key]]] = {
    "count": FrontendKeys._count,
    "rings": FrontendKeys._rings,
    "features": FrontendKeys._features,
    "control": FrontendKeys._control,
}


def stale(own: NodeDirectory, keys: Iterable[Key]) -> list[str]:
    """Nodes of an earlier connection in the directory ``own`` that ``keys`` does not overwrite.

    A backend looks for split channels first, and takes flat keys beside ``queue-N`` for a
    contradiction. So nodes of another number of queues or another driver have to go. (Linux leaves
    them; a driver that connects as before finds none and removes nothing.)
    """
    fresh = {name for name, _ in keys}
    queues = {directory for directory, _, key in (name.partition("/") for name in fresh) if key}
    found = []
    for name in own.names():
        if name in queues:
            inside = [f"{name}/{key}" for key in own.sub(name).names()]
            found += [node for node in inside if node not in fresh]
        elif _QUEUE_DIRECTORY.fullmatch(name) or (name in _OURS and name not in fresh):
            found.append(name)
    return found
