"""What xennet.abi defines, collected; and a C program that asks the installed Xen headers for it.

`c_program()` prints one line "name value" for every size, offset, signedness, constant and
string that a compiler can know; `expected()` is the same table from our own definitions.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from construct import Array, Construct, Padded, Renamed, Struct, Union

from xennet.abi import (
    event_channel,
    grant_table,
    netif,
    ring,
    sched,
    version,
    xen,
    xenbus,
    xenmem,
    xs_wire,
)
from xennet.abi.codec import Codec, derive, layout

MODULES = (
    xen,
    sched,
    xenmem,
    version,
    grant_table,
    event_channel,
    ring,
    netif,
    xs_wire,
    xenbus,
)
HEADERS = (
    "xen/xen.h",
    "xen/sched.h",
    "xen/memory.h",
    "xen/version.h",
    "xen/features.h",
    "xen/grant_table.h",
    "xen/event_channel.h",
    "xen/io/ring.h",
    "xen/io/netif.h",
    "xen/io/xs_wire.h",
    "xen/io/xenbus.h",
)

# Names of ours that the headers of Xen 4.17 do not have, and where they come from.
ABSENT_FROM_4_17 = {
    "DOMID_ANY": "newer Xen",
    "EVTCHNOP_reset_cont": "only for the hypervisor itself (__XEN__)",
    "XEN_NETIF_EXTRA_TYPE_XDP": "Linux's netif.h",
    "XEN_NETIF_EXTRA_TYPE_MAX_in_linux": "Linux's netif.h, there XEN_NETIF_EXTRA_TYPE_MAX",
    "XS_RESTRICT": "removed from the header",
    "XS_GET_FEATURE": "newer Xen",
    "XS_SET_FEATURE": "newer Xen",
    "XS_GET_QUOTA": "newer Xen",
    "XS_SET_QUOTA": "newer Xen",
    "XS_TYPE_COUNT_in_master": "newer Xen, there XS_TYPE_COUNT",
    "XENSTORE_SERVER_FEATURE_WATCHDEPTH": "newer Xen",
    "XENSTORE_SERVER_FEATURE_DOMID_ANY": "newer Xen",
    "PAGE_SHIFT": "no public header of x86 names it",
    "PAGE_SIZE": "no public header of x86 names it",
    "sring_header": "our name for what every *_sring begins with",
    "xenstore_domain_interface_evtchn_port": "newer Xen, there xenstore_domain_interface",
    "netif_extra_info.u.xdp": "Linux's netif.h",
    "netif_extra_info.u.xdp.headroom": "Linux's netif.h",
    "netif_extra_info.u.xdp.pad": "Linux's netif.h",
}

# Larger in headers newer than 4.17: there are more message types, and evtchn_port was added.
GROWS_AFTER_4_17 = {"XS_TYPE_COUNT", "xenstore_domain_interface"}

# Names of ours whose value the headers know by another expression.
EXPRESSIONS = {
    "NETIF_TX_RING_SIZE": "__CONST_RING_SIZE(netif_tx, 4096)",
    "NETIF_RX_RING_SIZE": "__CONST_RING_SIZE(netif_rx, 4096)",
    "NETIF_CTRL_RING_SIZE": "__CONST_RING_SIZE(xen_netif_ctrl, 4096)",
    "NETIF_TX_SLOT_SIZE": "sizeof(union netif_tx_sring_entry)",
    "NETIF_RX_SLOT_SIZE": "sizeof(union netif_rx_sring_entry)",
    "NETIF_CTRL_SLOT_SIZE": "sizeof(union xen_netif_ctrl_sring_entry)",
    "SRING_HEADER_SIZE": "offsetof(struct netif_tx_sring, ring)",
    "SRING_WORD_req_prod": "offsetof(struct netif_tx_sring, req_prod) / 4",
    "SRING_WORD_req_event": "offsetof(struct netif_tx_sring, req_event) / 4",
    "SRING_WORD_rsp_prod": "offsetof(struct netif_tx_sring, rsp_prod) / 4",
    "SRING_WORD_rsp_event": "offsetof(struct netif_tx_sring, rsp_event) / 4",
    "SRING_INITIAL_req_prod": "sring.req_prod",
    "SRING_INITIAL_req_event": "sring.req_event",
    "SRING_INITIAL_rsp_prod": "sring.rsp_prod",
    "SRING_INITIAL_rsp_event": "sring.rsp_event",
    "GRANT_ENTRIES_V1_PER_PAGE": "4096 / sizeof(struct grant_entry_v1)",
    "GRANT_ENTRIES_V2_PER_PAGE": "4096 / sizeof(union grant_entry_v2)",
    "GRANT_STATUS_PER_PAGE": "4096 / sizeof(grant_status_t)",
    "EVTCHN_FIFO_WORDS_PER_PAGE": "4096 / sizeof(event_word_t)",
}

# Since 4.20 the array that ends these is flexible: it has an entry, but none that sizeof counts.
_ENDS_IN_RING = {"netif_tx_sring", "netif_rx_sring", "xen_netif_ctrl_sring"}

# Everything else is a "struct".
_C_TYPES = {
    "grant_entry_v2": "union grant_entry_v2",
    "grant_status_t": "grant_status_t",
    "netif_tx_sring_entry": "union netif_tx_sring_entry",
    "netif_rx_sring_entry": "union netif_rx_sring_entry",
    "xen_netif_ctrl_sring_entry": "union xen_netif_ctrl_sring_entry",
}

# Pointers in C (XEN_GUEST_HANDLE), integers for us.
_GUEST_HANDLES = {"frame_list", "extent_start", "ports"}


def definitions() -> dict[str, Construct]:
    """Every named structure of xennet.abi."""
    return {
        name: value
        for module in MODULES
        for name, value in vars(module).items()
        if isinstance(value, Construct) and value.name == name
    }


def constants() -> dict[str, int]:
    """Every integer constant of xennet.abi."""
    return {
        name: int(value)
        for module in MODULES
        for name, value in vars(module).items()
        if isinstance(value, int)
    }


def strings() -> dict[str, str]:
    return {
        name: value
        for name, value in vars(xs_wire).items()
        if name.startswith("XS_") and isinstance(value, str)
    }


def _choices(definition: Construct, name: str = "") -> Iterator[dict[str, str]]:
    """Every way to choose a member for each union: {path of the union: member}."""
    while isinstance(definition, Renamed):
        definition = definition.subcon
    dot = f"{name}." if name else ""
    if isinstance(definition, Padded) and isinstance(definition.subcon, Union):
        for member in definition.subcon.subcons:
            for inner in _choices(member, f"{dot}{member.name}"):
                yield {name: member.name} | inner
        return
    parts: list[tuple[Construct, str]] = []
    if isinstance(definition, Struct):
        parts = [(part, f"{dot}{part.name}") for part in definition.subcons]
    elif isinstance(definition, Array):
        parts = [(definition.subcon, f"{dot}{i}") for i in range(definition.count)]
    for choice in itertools.product(*(_choices(*part) for part in parts)):
        yield {path: member for part in choice for path, member in part.items()}


def codecs(definition: Construct) -> list[Codec]:
    """A codec for every reading of a structure."""
    return [derive(definition, union=choice) for choice in _choices(definition)]


def _signs(definition: Construct) -> dict[str, bool]:
    """Dotted name -> is signed, for every integer that is not an array element past the first."""
    signs = {}
    for codec in codecs(definition):
        letters = [c for c in re.findall(r"\d*([a-zA-Z])", codec.format) if c != "x"]
        for field, letter in zip(codec.fields, letters, strict=True):
            later_element = re.search(r"\.[1-9]", field)
            if letter != "s" and not later_element and field not in _GUEST_HANDLES:
                signs[field] = letter.islower()
    return signs


def expected() -> dict[str, str]:
    """Line name -> value, as the C program should print them."""
    table: dict[str, int | str] = {}
    for name, definition in definitions().items():
        table[name] = definition.sizeof()
        for field, (offset, size) in layout(definition).items():
            table[f"{name}.{field}"] = f"{offset}+{size}"
        for field, signed in _signs(definition).items():
            table[f"signed:{name}.{field}"] = int(signed)
    table |= constants()
    table |= strings()
    table |= {f"xsd_errors[{i}]": f"{n}:{s}" for i, (n, s) in enumerate(xs_wire.xsd_errors)}
    table["xsd_errors"] = len(xs_wire.xsd_errors)
    return {
        name: str(value)
        for name, value in table.items()
        if not any(f"{name.removeprefix('signed:')}.".startswith(f"{a}.") for a in ABSENT_FROM_4_17)
    }


def _print(name: str, expression: str) -> str:
    return f'printf("{name} %lld\\n", (long long)({expression}));'


def _sizeof(c_type: str) -> str:
    """The size of a ring page's structure with one entry, whichever way the header ends it."""
    start, entry = f"offsetof({c_type}, ring)", f"sizeof((({c_type} *)0)->ring[0])"
    return f"sizeof({c_type}) == {start} ? {start} + {entry} : sizeof({c_type})"


def _statements() -> Iterator[str]:
    strings_of_ours = strings()
    for name in expected():
        struct_name, _, path = name.removeprefix("signed:").partition(".")
        c_type = _C_TYPES.get(struct_name, f"struct {struct_name}")
        flexible = struct_name in _ENDS_IN_RING
        place = f"(({c_type} *)0)->" + re.sub(r"\.(\d+)", r"[\1]", path)
        if flexible and path == "ring":
            place += "[0]"
        if name.startswith("xsd_errors"):
            continue
        if name.startswith("signed:"):
            # A scalar definition (grant_status_t) has no path and is itself the type.
            of = f"__typeof__({place})" if path else c_type
            yield _print(name, f"({of})-1 < 0")
        elif path:
            yield (f'printf("{name} %zu+%zu\\n", offsetof({c_type}, {path}), sizeof({place}));')
        elif struct_name in definitions():
            yield _print(name, _sizeof(c_type) if flexible else f"sizeof({c_type})")
        elif name in strings_of_ours:
            yield f'printf("{name} %s\\n", {name});'
        else:
            yield _print(name, EXPRESSIONS.get(name, name))


def c_program() -> str:
    """C source; needs -D__XEN_TOOLS__ and the public headers under <xen/...>."""
    return "\n".join(
        itertools.chain(
            ("#include <errno.h>", "#include <stddef.h>", "#include <stdint.h>"),
            ("#include <stdio.h>", "#include <string.h>"),
            (f"#include <{header}>" for header in HEADERS),
            ("int main(void) {", "struct netif_tx_sring sring;"),
            ("memset(&sring, 0xa5, sizeof(sring));", "SHARED_RING_INIT(&sring);"),
            _statements(),
            ("size_t n = sizeof(xsd_errors) / sizeof(xsd_errors[0]);",),
            ('printf("xsd_errors %zu\\n", n);', "for (size_t i = 0; i < n; i++)"),
            ('printf("xsd_errors[%zu] %d:%s\\n", i, xsd_errors[i].errnum,',),
            ("xsd_errors[i].errstring);", "return 0;", "}", ""),
        )
    )
