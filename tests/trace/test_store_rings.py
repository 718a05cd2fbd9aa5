"""A domain's ring to the store: recorded if that is asked for, and never an adversary's."""

from __future__ import annotations

import pytest

from xennet.adversary import Adversary
from xennet.engine.choice import using
from xennet.host import Host
from xennet.port.null import NullPort
from xennet.trace.history import History
from xennet.trace.recorder import Recorder, recording
from xennet.trace.stream import Event
from xennet.xenstore.ring_page import RingPage


def life(recorder: Recorder) -> tuple[Host, list[Event]]:
    """A vif that comes up while it is recorded."""
    events: list[Event] = []
    host = Host()
    host.dom0.load()
    guest = host.add_guest()
    guest.boot()
    recorder.sink(events.append)
    recorder.attach(host.machine)
    host.plug(guest, 0, NullPort(), NullPort())
    host.settle()
    return host, events


def test_the_page_is_what_the_recorded_accesses_make_of_it() -> None:
    with recording(store_rings=True) as recorder:
        host, events = life(recorder)
        store_ring = host.guests[1].domain.store_ring
        assert store_ring is not None
        # Four bytes at the beginning of the ring are no index of a ring of slots.
        page = RingPage.over(store_ring.page, recorder.shared)
        page.reset()
        page.requests.write(b"abcd")
    told = [e["memory"] for e in events if e["kind"] == "memory" and e["what"] == "store ring"]
    assert len(set(told)) == 1
    held = History(events).bytes_at(told[0], events[-1]["n"])
    assert held == store_ring.page.u8[:4096].tobytes()
    assert held[:4] == b"abcd"
    mine = [event for event in events if event.get("memory") == told[0]]
    assert {event["kind"] for event in mine} == {"memory", "load", "store"}
    assert not any(event.get("by") == "unseen" for event in mine)
    assert len(mine) > 500


@pytest.mark.parametrize("engine", ["recorder", "adversary"])
def test_otherwise_nobody_is_told_of_it(engine: str) -> None:
    if engine == "recorder":
        with recording() as recorder:
            _, events = life(recorder)
        assert "store ring" not in {e["what"] for e in events if e["kind"] == "memory"}
        return
    adversary = Adversary()
    with using(adversary):
        host = Host()
        host.dom0.load()
        host.add_guest().boot()
    assert "store ring" not in {name for name, _ in adversary.memories}
