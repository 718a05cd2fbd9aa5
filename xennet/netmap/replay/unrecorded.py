"""What was done in some cases and is not among their steps: said in the note, or seen in what
follows.

Each row: a pattern of case ids, and the steps that are put in front of a step of the record, by its
index. Frames of the stack and of the far end of a pair have the form that the record shows later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Step = dict[str, Any]
Inserted = dict[int, list[Step]]

_BROADCAST = "ffffffffffff"


def _frame(to: str, source: str, tag: int, length: int = 60) -> str:
    return to + source + "88b5" + f"{tag:02x}" * (length - 14)


def _stack(dev: str, source: str, *tags: int, length: int = 60) -> list[Step]:
    return [
        {"op": "stack_sends", "dev": dev, "frame": _frame(_BROADCAST, source, tag, length)}
        for tag in tags
    ]


def _arrive(dev: str, to: str, source: str, *tags: int) -> list[Step]:
    return [{"op": "arrives", "dev": dev, "frame": _frame(to, source, tag)} for tag in tags]


def _sent(fd: str, number: int, length: int = 60, more: bool = False) -> list[Step]:
    """Frames in the slots from 0, tagged with their number, and a txsync."""
    first = "ffffffffffff02000000000188b5"
    steps: list[Step] = []
    for i in range(number):
        head = "" if more and i else first
        last = i == number - 1
        steps.append(
            {
                "op": "put",
                "fd": fd,
                "ring": "tx0",
                "slot": i,
                "data": head + f"{i:02x}" * (length - len(head) // 2),
                "datalen": length,
                "len": length,
                "flags": 32 if more and not last else 0,
            }
        )
    ring = {"op": "setring", "fd": fd, "ring": "tx0", "head": number, "cur": number}
    return [*steps, ring, {"op": "txsync", "fd": fd, "ret": 0, "errno": 0}]


def _morefrag(match: re.Match[str]) -> Inserted:
    return {6: _sent("a", int(match[1]), 100, more=True)}


def _forward(match: re.Match[str]) -> Inserted:
    steps: list[Step] = []
    by_flag = match[2] == "ring-flag"
    if not by_flag:
        steps.append({"op": "parameter", "fwd": True})
    if match[1] == "stack-to-nic":
        steps += _stack("va", "0200000000a0", 1, 2, 3)
    else:
        steps += _arrive("va", "0200000000a0", "0200000000b0", 1, 2, 3)
        steps.append({"op": "socket_opened", "dev": "va"})
    return {4 if by_flag else 3: steps, -1: [{"op": "parameter", "fwd": False}]}


def _wake_out(_: re.Match[str]) -> Inserted:
    release = {"op": "setring", "fd": "b", "ring": "rx0", "head": 2, "cur": 2}
    return {16: [release, {"op": "rxsync", "fd": "b", "ret": 0, "errno": 0}]}


def _dup(_: re.Match[str]) -> Inserted:
    return {
        3: [{"op": "dup", "fd": "a"}, {"op": "drop", "fd": "a"}],
        8: [{"op": "drop", "fd": "a"}],
    }


def _mem_params(_: re.Match[str]) -> Inserted:
    return {
        0: [{"op": "parameter", "buf_num": 10000, "buf_size": 4096}],
        7: [{"op": "parameter", "buf_num": 163840, "buf_size": 2048}],
    }


_ROWS: tuple[tuple[str, Callable[[re.Match[str]], Inserted]], ...] = (
    (r"vale/morefrag-([0-9]{1,3})", _morefrag),
    (
        r"vale/timestamp-off",
        lambda _: {
            0: [{"op": "parameter", "no_timestamp": True}],
            -1: [{"op": "parameter", "no_timestamp": False}],
        },
    ),
    (r"forward/(stack-to-nic|nic-to-stack)-(ring-flag|sysctl)-\w+", _forward),
    (
        r"host_rings/stack-to-host-rx",
        lambda _: {
            4: [
                *_stack("dm0", "020000000003", 3),
                *_stack("dm0", "020000000003", 4, length=1514),
            ]
        },
    ),
    (r"host_rings/stack-nic-only", lambda _: {3: _stack("va", "0200000000a0", 1)}),
    (
        r"generic/veth-rx-while-netmap-stack",
        lambda _: {3: _arrive("va", "0200000000a0", "0200000000b0", 1)},
    ),
    (r"generic/dummy-tx", lambda _: {3: _sent("a", 5)}),
    (r"more/mem-params", _mem_params),
    (r"poll/wake-out", _wake_out),
    (r"poll/vale-wake", lambda _: {6: _sent("a", 1)}),
    (r"close/dup", _dup),
    (r"close/poll-while-closed-by-thread", lambda _: {3: [{"op": "drop", "fd": "a"}]}),
    (
        r"csb_kloop/align-(atok|ktoa)",
        lambda match: {
            1: [
                {
                    "op": "csb_shift",
                    "atok": 32 if match[1] == "atok" else 0,
                    "ktoa": 32 if match[1] == "ktoa" else 0,
                }
            ]
        },
    ),
    (
        r"csb_kloop/kloop-runs",
        lambda _: {
            6: [{"op": "kloop_start", "fd": "a"}],
            24: [{"op": "write_atok", "fd": "a", "ring": 1, "head": 1}],
            27: [{"op": "write_atok", "fd": "a", "ring": 0, "head": 2}],
        },
    ),
    (
        r"vale_nic/attached-veth",
        lambda _: {
            10: _arrive("va", _BROADCAST, "0200000000b0", 2),
            18: _arrive("va", "020000000001", "0200000000b0", 5),
            24: _stack("va", "0200000000a0", 6),
        },
    ),
    (
        r"vale_nic/attached-veth-host",
        lambda _: {
            5: _stack("va", "0200000000a0", 6),
            9: [{"op": "socket_opened", "dev": "va"}],
            22: _arrive("va", "0200000000a0", "0200000000b0", 3),
        },
    ),
)

#: Pattern of case ids -> why they cannot be played from what the record has.
NOT_PLAYABLE: tuple[tuple[str, str], ...] = (
    (r"host_rings/udp-csum", "the stack of Linux made the datagrams"),
)


def inserted(case_id: str) -> Inserted:
    """The steps that a case has besides those recorded, by the index of the step they come before;
    index -1: behind the last."""
    for pattern, steps in _ROWS:
        if (match := re.fullmatch(pattern, case_id)) is not None:
            return steps(match)
    return {}


def why_not_playable(case_id: str) -> str | None:
    """Why a case cannot be played, None if it can."""
    return next((why for pattern, why in NOT_PLAYABLE if re.fullmatch(pattern, case_id)), None)
