"""Recordings of any run, also of hostile peers, agree with themselves and with the machine."""

from __future__ import annotations

from typing import Any

import pytest
from consistency import of_kinds, require_consistent, require_replayed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xennet.choices import NoSuchChoiceError
from xennet.link.base_link import LinkError
from xennet.port import open_port
from xennet.run.links import run_ports
from xennet.run.options import RunOptions
from xennet.testing import BACKEND_LIFE, FRONTEND_LIFE, VifSetup, live
from xennet.testing.strategies import backend_plans, frontend_plans
from xennet.trace.recorder import recording
from xennet.trace.stream import Event

FEW = settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PORTS = ("gen:60x3", "gen:3000x2", "tcp:9000x1@2", "tcp6:5000x1")
OPTIONS = st.fixed_dictionaries(
    {
        "queues": st.integers(1, 2),
        "grant_version": st.integers(1, 2),
        "evtchn": st.sampled_from(("2l", "fifo")),
        "frontend": st.sampled_from(("linux", "freebsd", "windows")),
        "backend": st.sampled_from(("linux", "linux", "xnb")),
        "split_channels": st.booleans(),
        "gso": st.booleans(),
        "guests": st.sampled_from((1, 1, 2)),
        "choices": st.sampled_from((None, "a1a2a1", "200a3a1")),
    }
)


@FEW
@given(st.sampled_from(PORTS), st.sampled_from(("null:", "echo:", "gen:60x2")), OPTIONS)
def test_a_run(guest: str, host: str, options: dict[str, Any]) -> None:
    if options["guests"] > 1:
        options["choices"] = None  # they take turns
    events: list[Event] = []
    with recording() as recorder:
        recorder.sink(events.append)

        def made(link: Any) -> None:
            machine, close = link.host.machine, link.close
            recorder.attach(machine)

            def closed() -> None:
                require_replayed(recorder, machine, events)
                close()
                require_replayed(recorder, machine, events)
                recorder.detach()

            link.close = closed

        ends = [[open_port(spec) for _ in range(options["guests"])] for spec in (guest, host)]
        try:
            report = run_ports(*ends, RunOptions(**options), lambda *_: None, made=made)
            wanted = {"publish", "notify", "frame", "copy"} if report.verdict.good else set()
        except (LinkError, NoSuchChoiceError):  # no vif, or choices that it does not have
            recorder.detach()
            wanted = set()
    require_consistent(events)
    assert wanted <= of_kinds(events)


@pytest.mark.parametrize("raw", ["frontend", "backend"])
@FEW
@given(st.data())
def test_a_hostile_peer(raw: str, data: st.DataObject) -> None:
    plan = data.draw(frontend_plans() if raw == "frontend" else backend_plans())
    events: list[Event] = []
    with recording() as recorder:
        recorder.sink(events.append)
        setup = VifSetup.make(**{raw: "raw"})
        machine = setup.host.machine
        recorder.attach(machine)
        peer = setup.frontend if raw == "frontend" else setup.backend
        live(peer, FRONTEND_LIFE if raw == "frontend" else BACKEND_LIFE, plan)
        require_replayed(recorder, machine, events)
        recorder.detach()
        setup.finish()
    require_consistent(events)
