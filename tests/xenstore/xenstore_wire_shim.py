"""Recorded messages applied to a Connection, as a transport would do it."""

from __future__ import annotations

from collections.abc import Callable

from xennet.xenstore import Connection, XsError


def _listed(names: list[str]) -> bytes:
    return b"".join(name.encode() + b"\0" for name in names)


def _write(c: Connection, payload: bytes, tx: int) -> None:
    path, nul, value = payload.partition(b"\0")
    if not nul:
        raise XsError("EINVAL")
    c.write(path.decode(), value, tx)


def _one(payload: bytes) -> str:
    path, nul, rest = payload.partition(b"\0")
    if not nul or rest:
        raise XsError("EINVAL")
    return path.decode()


def _two(payload: bytes) -> tuple[str, str]:
    strings = payload.decode().split("\0")
    if len(strings) != 3:
        raise XsError("EINVAL")
    return strings[0], strings[1]


def _numbers(payload: bytes) -> list[int]:
    return [int(word) for word in payload.decode().split("\0") if word]


def _set_perms(c: Connection, payload: bytes, tx: int) -> None:
    path, *perms = payload.decode().split("\0")[:-1]
    c.set_perms(path, perms, tx)


def _end(c: Connection, payload: bytes, tx: int) -> None:
    flag = _one(payload)
    if flag not in ("T", "F"):
        raise XsError("EINVAL")
    c.transaction_end(tx, flag == "T")


_CALLS: dict[str, Callable[[Connection, bytes, int], object]] = {
    "READ": lambda c, p, tx: c.read(_one(p), tx),
    "WRITE": _write,
    "MKDIR": lambda c, p, tx: c.mkdir(_one(p), tx),
    "RM": lambda c, p, tx: c.rm(_one(p), tx),
    "DIRECTORY": lambda c, p, tx: _listed(c.directory(_one(p), tx)),
    "GET_PERMS": lambda c, p, tx: _listed([str(perm) for perm in c.get_perms(_one(p), tx)]),
    "SET_PERMS": _set_perms,
    "WATCH": lambda c, p, tx: c.watch(*_two(p)),
    "UNWATCH": lambda c, p, tx: c.unwatch(*_two(p)),
    "RESET_WATCHES": lambda c, p, tx: c.reset_watches(tx),
    "TRANSACTION_START": lambda c, p, tx: f"{c.transaction_start(tx)}\0".encode(),
    "TRANSACTION_END": _end,
    "GET_DOMAIN_PATH": lambda c, p, tx: f"{c.get_domain_path(*_numbers(p), tx)}\0".encode(),
    "IS_DOMAIN_INTRODUCED": lambda c, p, tx: (
        b"T\0" if c.is_domain_introduced(*_numbers(p), tx) else b"F\0"
    ),
    "INTRODUCE": lambda c, p, tx: c.introduce(*_numbers(p), tx),
    "RELEASE": lambda c, p, tx: c.release(*_numbers(p), tx),
    "RESUME": lambda c, p, tx: c.resume(*_numbers(p), tx),
    "SET_TARGET": lambda c, p, tx: c.set_target(*_numbers(p), tx),
}


def can_apply(op: str) -> bool:
    """True for requests that need no framing of their own."""
    return op in _CALLS


def apply(connection: Connection, op: str, payload: bytes, tx: int) -> tuple[str, bytes]:
    """The reply to a message: type and payload, ``("ERROR", b"ENOENT\\0")`` for a refusal."""
    try:
        result = _CALLS[op](connection, payload, tx)
    except XsError as error:
        return "ERROR", error.errno.encode() + b"\0"
    return op, result if isinstance(result, bytes) else b"OK\0"
