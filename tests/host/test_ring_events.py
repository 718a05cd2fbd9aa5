"""What kernels say about single packets when somebody listens."""

from __future__ import annotations

from vif_peers import Stack

from xennet.link.vif import VifLink
from xennet.vif.ring_events import RECORDS, EventsLost, RingEvent, new_log, silent_log, take


def observed_run(engine: str) -> list[RingEvent]:
    guest, host = Stack(), Stack()
    link = VifLink(guest, host)
    link.open()
    seen: list[RingEvent] = []
    link.machine.observers.subscribe(seen.append, RingEvent)  # type: ignore[arg-type]
    guest.to_send = [bytes(60), bytes(9014)]
    host.to_send = [bytes(5000)]
    link.carry()
    link.close()
    link.destroy()
    return seen


def test_every_packet_is_seen_from_both_ends(engine: str) -> None:
    seen = [
        (event.domid, event.ring, event.what, event.index, dict(event.values))
        for event in observed_run(engine)
        if event.what != "response"
    ]
    assert sorted(seen, key=str) == sorted(
        [
            (1, "tx", "packet sent", 0, {"slots": 1, "bytes": 60}),
            (1, "tx", "packet sent", 1, {"slots": 3, "bytes": 9014}),
            (0, "tx", "packet from the guest", 0, {"slots": 1, "bytes": 60}),
            (0, "tx", "packet from the guest", 1, {"slots": 3, "bytes": 9014}),
            (0, "rx", "packet to the guest", 0, {"slots": 2, "bytes": 5000}),
            (1, "rx", "packet received", 0, {"slots": 2, "bytes": 5000}),
        ],
        key=str,
    )


def test_every_response_is_seen_with_its_id_and_status(engine: str) -> None:
    responses = [event for event in observed_run(engine) if event.what == "response"]
    assert [event.index for event in responses] == [0, 1, 2, 3]
    assert {dict(event.values)["status"] for event in responses} == {0}
    assert len({dict(event.values)["id"] for event in responses}) == 4


def test_a_log_without_room_counts_what_is_lost() -> None:
    from xennet.engine.kernel import note

    log = new_log()
    for i in range(RECORDS + 3):
        note(log, 1, i, 1, 60, 0)
    events = list(take(0, log))
    assert len(events) == RECORDS + 1
    assert events[-1] == EventsLost(0, 3)
    assert list(take(0, log)) == []


def test_a_silent_log_is_a_bare_header() -> None:
    assert list(take(0, silent_log())) == []
