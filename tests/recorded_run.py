"""A whole run as a recording."""

from __future__ import annotations

from typing import Any

from xennet.port import open_port
from xennet.run.links import run_ports
from xennet.run.options import RunOptions
from xennet.trace.recorder import recording
from xennet.trace.stream import Event, header_of


def record_run(guest: str, host: str, **options: Any) -> tuple[Event, list[Event]]:
    """The header and the events of a good run between two ports, with RunOptions."""
    events: list[Event] = []
    with recording() as recorder:
        recorder.sink(events.append)

        def made(link: Any) -> None:
            recorder.attach(link.host.machine)

        ports = [open_port(guest)], [open_port(host)]
        report = run_ports(*ports, RunOptions(**options), lambda *_: None, made=made)
        recorder.detach()
    assert report.verdict.good
    return header_of(["run", "--guest", guest, "--host", host]), events
