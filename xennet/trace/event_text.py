"""Text in events: bytes and values of others made printable, and the names of deliveries."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs

from xennet.runloop import Delivery


def printable(value: bytes, kept: bytes = b"") -> str:
    """Bytes as text: all but printable ASCII, and the backslash if it is not ``kept``, as
    ``\\xNN``."""
    return "".join(
        chr(b) if 32 <= b < 127 and (b != 92 or b in kept) else f"\\x{b:02x}" for b in value
    )


def cleaned(event: Any) -> Any:
    """An event whose members that are text are as :func:`plain` has them."""
    texts = {
        one.name: plain(value)
        for one in attrs.fields(type(event))
        if isinstance(value := getattr(event, one.name), str)
        and not (value.isascii() and value.isprintable() and "\\" not in value)
    }
    return attrs.evolve(event, **texts) if texts else event


def plain(value: object) -> Any:
    """``value`` in JSON's types, text and what is else told by its text made printable."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return printable(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return printable(str(value).encode("utf-8", "surrogateescape"))


def name_of(delivery: Delivery, call: object) -> str:
    """The name of a delivery that calls ``call()``: whose pass it is, where that is known."""
    while isinstance(call, partial):
        if call.args == (delivery,):
            break
        call = call.args[-1] if call.args else call.func
    if delivery.kind == "evtchn":
        return f"event at port {delivery.ident} of domain {delivery.domid}"
    owner = getattr(call, "__self__", None)
    if name := getattr(owner, "delivery_name", ""):
        return str(name)
    kind = type(owner) if owner is not None else None
    module = getattr(kind, "__module__", getattr(call, "__module__", ""))
    room = module.split(".")[1] if module.startswith("xennet.") else ""
    words = getattr(call, "__qualname__", "")
    if owner is not None and not room:
        return f"{type(owner).__name__}.{getattr(call, '__name__', '')} of domain {delivery.domid}"
    return f"{delivery} ({room} {words})" if room and words else str(delivery)
