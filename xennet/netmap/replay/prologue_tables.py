"""The tables of the topic ``prologue``: every head and cur on a ring of eight slots, on fresh
ports."""

from __future__ import annotations

import re
from typing import Any

from xennet.abi.netmap import NIOCRXSYNC, NIOCTXSYNC, NR_REG_ALL_NIC, NR_REG_NULL, REGISTER
from xennet.netmap.replay.control_step import ctrl
from xennet.netmap.replay.recorded_machine import Client, Machine, named
from xennet.netmap.sync import POLLIN, POLLOUT

_SLOTS = 8
#: Kind of port -> name, mode, memory id, number of rings asked for.
_PORTS = {
    "vale": ("vale0:t", NR_REG_ALL_NIC, 0, 0),
    "pipe": ("dm0{q", NR_REG_ALL_NIC, 0, 0),
    "null": ("nul", NR_REG_NULL, 1, 1),
}
_PEER = "dm0}q"


def _opened(machine: Machine, fd: str, name: str, mode: int, mem_id: int, rings: int) -> Client:
    client = machine.open(fd)
    fields = dict.fromkeys(REGISTER.fields, 0)
    fields |= {"nr_tx_slots": _SLOTS, "nr_rx_slots": _SLOTS, "nr_mode": mode}
    fields |= {"nr_mem_id": mem_id, "nr_tx_rings": rings, "nr_rx_rings": rings}
    body = REGISTER.pack(*(fields[field] for field in REGISTER.fields)).hex()
    ctrl(machine, {"fd": fd, "reqtype": 1, "name": name, "body_in": body})
    return client


def _moved(machine: Machine, client: Client, ring: str, to: int) -> None:
    client.set_ring(ring, head=to, cur=to)
    _sync(machine, client, ring)


def _sync(machine: Machine, client: Client, ring: str) -> int:
    command = NIOCTXSYNC if ring.startswith("tx") else NIOCRXSYNC
    return machine.device.ioctl(client.file, command)


def _state(client: Client, ring: str) -> list[int]:
    head = client.ring_head(ring)
    return [head.head, head.cur, head.tail]


def _prepared(machine: Machine, case_id: str, prep: list[int]) -> tuple[Client, str]:
    """A fresh client of the case's kind of port in the state before the rows, and its ring."""
    machine.begin()
    way, kind = re.match(r"prologue/(tx|rx)-(\w+?)-", case_id).groups()  # type: ignore[union-attr]
    client = _opened(machine, "a", *_PORTS[kind])
    if way == "tx":
        for head in prep:
            _moved(machine, client, "tx0", head)
        return client, "tx0"
    reader = _opened(machine, "b", _PEER, NR_REG_ALL_NIC, 0, 0)
    match = re.search(r"-(\d+)-(\d+)released", case_id)
    sent, released = (int(match[1]), int(match[2])) if match else (5, 5)
    _moved(machine, client, "tx0", sent)
    _sync(machine, reader, "rx0")
    _moved(machine, reader, "rx0", released)
    if match is None:
        # Five sent and released, four more sent.
        _sync(machine, client, "tx0")
        _moved(machine, client, "tx0", (sent + 4) % _SLOTS)
        _sync(machine, reader, "rx0")
    return reader, "rx0"


def table(machine: Machine, case_id: str, step: dict[str, Any]) -> dict[str, Any]:
    """Play every row of a table."""
    rows = []
    before: list[int] = []
    events = POLLOUT if case_id.startswith("prologue/tx") else POLLIN
    for head, cur, *_ in step["rows"]:
        client, ring = _prepared(machine, case_id, step.get("prep", []))
        before = _state(client, ring)
        client.set_ring(ring, head=head, cur=cur)
        errno = _sync(machine, client, ring)
        row = [head, cur, -1 if errno else 0, named(errno), _state(client, ring)]
        row += [-1 if _sync(machine, client, ring) else 0, _state(client, ring)]
        rows.append([*row, client.file.poll(events)])
    return {"before": before, "rows": rows}
