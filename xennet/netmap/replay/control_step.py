"""The step ``ctrl``: a NIOCCTRL request as bytes in the client's memory, and what came back."""

from __future__ import annotations

from typing import Any

from xennet.abi.netmap import (
    HEADER,
    NETMAP_API,
    NETMAP_REQ_IFNAMSIZ,
    NETMAP_REQ_OPT_CSB,
    NETMAP_REQ_OPT_EXTMEM,
    NIOCCTRL,
    OPTION,
)
from xennet.netmap.device import PENDING
from xennet.netmap.replay.record_limits import MOST_BYTES, MOST_MAPPED, bounded
from xennet.netmap.replay.recorded_machine import Client, Machine, named

#: Stands in a record for a digit of an address that was another one in each run.
POINTER = "P"
#: What the arrays of control blocks were filled with, to show which entries are written.
_CSB_WORDS = 64 * 64 // 4
_CSB_FILL = (0xDEAD, 0xBEEF)


def plain_hex(text: str | dict[str, Any]) -> str:
    """The hex digits of a record, which are written shorter where a byte is repeated."""
    if isinstance(text, str):
        return text
    times = bounded("bytes repeated", text["times"], MOST_BYTES)
    return str(text["hex"]) + str(text["then"])[:2] * times


def masked(recorded: str, actual: str) -> str:
    """``actual`` with the digits of addresses as the record has them."""
    if len(recorded) != len(actual):
        return actual
    pairs = zip(recorded, actual, strict=True)
    return "".join(POINTER if r == POINTER else a for r, a in pairs)


def _address_for(machine: Machine, client: Client, option_type: int, body: str) -> str:
    """An option's body with addresses in the place of the digits that a record leaves out."""
    if POINTER not in body:
        return body
    if option_type == NETMAP_REQ_OPT_EXTMEM:
        memsize = int.from_bytes(bytes.fromhex(body[16:32]), "little")
        bounded("bytes of extmem", memsize, MOST_MAPPED)
        address = client.memory.map(bytearray(max(1, memsize)))
        return address.to_bytes(8, "little").hex() + body[16:]
    if option_type == NETMAP_REQ_OPT_CSB:
        atok, ktoa = (
            client.memory.map(bytearray(fill.to_bytes(4, "little") * _CSB_WORDS)) + shift
            for fill, shift in zip(_CSB_FILL, machine.csb_shift, strict=True)
        )
        client.csb = (atok, ktoa)
        told = "".join(address.to_bytes(8, "little").hex() for address in client.csb)
        return told[: len(body)]
    return body


def ctrl(machine: Machine, step: dict[str, Any]) -> dict[str, Any]:
    """Make the request, and show what a record has of it."""
    client = machine.clients[step["fd"]]
    memory = client.memory
    body_hex = None if step["body_in"] is None else plain_hex(step["body_in"])
    body = b"" if body_hex is None else bytes.fromhex(body_hex)
    body_at = memory.map(bytearray(body)) if body_hex is not None else 0
    options = _options_in(machine, client, step)
    name = step["name"].encode("latin-1")
    header = HEADER.pack(
        step.get("version", NETMAP_API),
        step["reqtype"],
        step.get("reserved", 0),
        name,
        options[0][0] if options else 0,
        body_at,
    )
    header_at = memory.map(bytearray(header))
    errno = machine.device.ioctl(client.file, NIOCCTRL, header_at, machine.answers.append)
    if errno == PENDING:  # a thread of the client waits in it
        errno = 0
    shown: dict[str, Any] = {"ret": -1 if errno else 0, "errno": named(errno)}
    if body_hex is not None and "body_out" in step:
        after = memory.read(body_at, len(body)).hex()
        shown["body_out"] = "same" if after == body_hex else after
    if options:
        shown["opts_out"] = [_option_out(client, *option) for option in options]
    told = HEADER.read(memory.read(header_at, HEADER.size))
    head = [told.nr_version, told.nr_reqtype, told.nr_reserved]
    usual = [step.get("version", NETMAP_API), step["reqtype"], 0]
    if "hdr_out" in step or head != usual:
        shown["hdr_out"] = head
    if "name_out" in step or told.nr_name != name.ljust(NETMAP_REQ_IFNAMSIZ, b"\0"):
        shown["name_out"] = told.nr_name.hex()
    return shown


def _options_in(machine: Machine, client: Client, step: dict[str, Any]) -> list[tuple[int, str]]:
    """Chain the options of a step. Returns address and body of each."""
    options: list[tuple[int, str]] = []
    for option_type, size, text in step.get("opts_in") or ():
        body = _address_for(machine, client, option_type, plain_hex(text))
        header = OPTION.pack(0, option_type, 0, size)
        options.append((client.memory.map(bytearray(header + bytes.fromhex(body))), body))
    links = [address for address, _ in options[1:]]
    if "opts_loop_to" in step:
        links.append(options[step["opts_loop_to"]][0])
    for (address, _), following in zip(options, links, strict=False):
        client.memory.write(address, following.to_bytes(8, "little"))
    return options


def _option_out(client: Client, address: int, body: str) -> list[Any]:
    whole = client.memory.read(address, OPTION.size + len(body) // 2)
    _, option_type, status, size = OPTION.unpack_from(whole)
    after = whole[OPTION.size :].hex()
    return [option_type, named(status), size, "same" if after == body else after]
