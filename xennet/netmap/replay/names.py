"""Records of names: what libnetmap's nmport_prepare, or the old nm_open, makes of each."""

from __future__ import annotations

from errno import ENOENT, errorcode
from typing import Any

from xennet.netmap.errors import NetmapError
from xennet.netmap.replay.play import Difference, Outcome, Played
from xennet.netmap.replay.recorded_machine import Machine
from xennet.netmap.user.nm_open import nm_open
from xennet.netmap.user.nmport import parsed
from xennet.netmap.user.port_name import PortName, parse_port_name

Row = dict[str, Any]

#: Key of a row -> field of the request.
_PREPARED = {
    "mode": "nr_mode",
    "ringid": "nr_ringid",
    "flags": "nr_flags",
    "mem_id": "nr_mem_id",
    "tx_rings": "nr_tx_rings",
    "rx_rings": "nr_rx_rings",
    "tx_slots": "nr_tx_slots",
    "rx_slots": "nr_rx_slots",
    "host_tx": "nr_host_tx_rings",
    "host_rx": "nr_host_rx_rings",
}
_OLD = {
    "req_flags": "nr_flags",
    "ringid": "nr_ringid",
    "arg1": "nr_arg1",
    "arg2": "nr_arg2",
    "arg3": "nr_arg3",
}


def are_names(record: Any) -> bool:
    """Whether a record is a list of names."""
    return (
        isinstance(record, list)
        and bool(record)
        and all(
            isinstance(row, dict) and isinstance(row.get("name"), str) and "errno" in row
            for row in record
        )
    )


def play_names(rows: list[Row]) -> Played:
    """Give every name to the library that was asked, on the machine of the records.

    Rows with ``req_name`` are nm_open's, others libnetmap's. Names on ``dm0`` were tried with the
    module loaded; without it, the device itself cannot be opened.
    """
    machine = Machine()
    old = any("req_name" in row for row in rows)
    loaded = old or any(row["name"].startswith("netmap:dm0") for row in rows)
    played = Played()
    for row in rows:
        try:
            shown = (
                _opened(machine, row["name"]) if old else _prepared(machine, row["name"], loaded)
            )
        except NetmapError as e:
            shown = {"errno": _named(e.errno)}
        except Exception as e:
            shown = {"errno": repr(e)}
        recorded = {key: value for key, value in row.items() if key != "name"}
        played.outcomes.append(Outcome(row["name"], difference=_difference(recorded, shown)))
    return played


def _named(errno: int) -> int | str:
    return errorcode[errno] if errno else 0


def _no_device(name: str) -> int:
    raise NetmapError(ENOENT, f"cannot open /dev/netmap for {name}")


def _prepared(machine: Machine, text: str, loaded: bool) -> Row:
    port: PortName = parsed(text, machine.device) if loaded else parse_port_name(text, _no_device)
    fields = {key: port.register.get(field, 0) for key, field in _PREPARED.items()}
    options = ["extmem"] if port.extmem is not None else []
    return {"errno": 0, "kernel_name": port.name, **fields, "options": options}


def _opened(machine: Machine, text: str) -> Row:
    desc = nm_open(text, machine.device)
    machine.device.close(desc.file)
    name = desc.req.nr_name.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    fields = {key: getattr(desc.req, field) for key, field in _OLD.items()}
    rings = {
        "first_tx": desc.first_tx_ring,
        "last_tx": desc.last_tx_ring,
        "first_rx": desc.first_rx_ring,
        "last_rx": desc.last_rx_ring,
    }
    return {"errno": 0, "req_name": name, **fields, **rings}


def _difference(recorded: Row, shown: Row) -> Difference | None:
    for key in {**recorded, **shown}:
        if recorded.get(key) != shown.get(key):
            return Difference(0, "name", key, recorded.get(key), shown.get(key))
    return None
