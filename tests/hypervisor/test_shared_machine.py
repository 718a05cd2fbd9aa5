"""A machine whose memory other processes may map does what one of its own memory does, with atomic
operations."""

from __future__ import annotations

from typing import Any

import pytest
from vif_peers import Stack

from xennet.engine import atomics
from xennet.host.host import Host

FRAMES = [bytes([size & 0xFF]) * size for size in (60, 9000, 4096, 1514)] * 3


class Counting:
    """The operations between processes, counted."""

    def __init__(self, way: atomics.ReadModifyWrite) -> None:
        self.way = way
        self.done = dict.fromkeys(("compare_and_swap", "fetch_or", "fetch_and"), 0)

    def __getattr__(self, name: str) -> Any:
        self.done[name] += 1
        return getattr(self.way, name)


def run(grant_version: int, evtchn_abi: str, *, shared: bool) -> list[Any]:
    """What a vif carried both ways, and what was left in its rings and in the guest's pages."""
    host = Host(shared=shared)
    guest = host.add_guest(grant_version=grant_version, evtchn_abi=evtchn_abi)
    host.boot()
    ends = Stack(), Stack()
    vif = host.plug(guest, 0, *ends)
    host.settle()
    for end in ends:
        end.to_send += FRAMES
    vif.kick_guest()
    vif.kick_host()
    host.settle()
    memory = host.machine.memory
    found = [bytes(memory.u8[: 64 << 20]), *(end.received for end in ends)]
    host.unplug(vif)
    host.settle()
    found.append(bool(host.leaks()))
    host.destroy()
    return found


@pytest.mark.usefixtures("sharing")
@pytest.mark.parametrize(("grant_version", "evtchn_abi"), [(1, "2l"), (2, "fifo")])
def test_a_shared_machine_does_the_same_in_the_same_bytes(
    grant_version: int, evtchn_abi: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = run(grant_version, evtchn_abi, shared=False)
    counting = Counting(atomics.of_processes())
    monkeypatch.setattr(atomics, "of_processes", lambda: counting)
    shared = run(grant_version, evtchn_abi, shared=True)
    assert shared == own
    assert own[1:] == [FRAMES, FRAMES, False]
    # Events and mappings are changed by code that is never compiled; grants of packets by kernels.
    done = counting.done
    assert done["fetch_or"] > 10
    assert done["fetch_and"] > 10
    if engine == "plain" and grant_version == 1:
        assert done["compare_and_swap"] > 4 * len(FRAMES)
