"""What is written into a directory of the store, in order: also before a peer was there to see."""

from __future__ import annotations

from xennet.hypervisor import Machine
from xennet.observe import StoreOperation


class NodeLog:
    """The nodes that are written below ``directory`` from now on, each as (name, value), in the
    order in which others can see them: those of a transaction when it ends."""

    def __init__(self, machine: Machine, directory: str) -> None:
        self.written: list[tuple[str, bytes]] = []
        self._above = f"{directory}/"
        self._pending: dict[tuple[str, int], list[tuple[str, bytes]]] = {}
        machine.observers.subscribe(self._observe, StoreOperation)

    def _observe(self, event: StoreOperation) -> None:
        if event.error:
            return
        transaction = event.who, event.tx_id
        home = "" if event.path.startswith("/") else f"/local/domain/{event.domid}/"
        path = home + event.path
        if event.op == "WRITE" and path.startswith(self._above):
            node = path.removeprefix(self._above), event.value
            (self._pending.setdefault(transaction, []) if event.tx_id else self.written).append(
                node
            )
        elif event.op == "TRANSACTION_END":
            nodes = self._pending.pop(transaction, [])
            self.written += nodes if event.value == b"T" else []
