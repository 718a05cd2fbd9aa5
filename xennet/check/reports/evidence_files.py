"""The evidence of results that are not good, as files in a directory for each check."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import dpkt

from xennet.check.reports.as_json import result_json
from xennet.check.runner import Play, Result

_NS = 1_000_000_000


def write_evidence(folder: Path, result: Result) -> None:
    """Write ``folder/CHECK/``: ``result.json``; ``slot-diff.txt``; and of the play, and with
    ``control-`` before the name of its control twin: ``notes.txt`` (what the peer did and saw),
    ``trace.jsonl`` (the events of the machine), ``frames.pcap`` (well-formed frames that went to
    the driver and came back), ``output.txt`` (what a program has written). Raises OSError."""
    place = folder / result.check.id
    place.mkdir(parents=True, exist_ok=True)
    (place / "result.json").write_text(json.dumps(result_json(result), indent=2) + "\n")
    if result.diff:
        (place / "slot-diff.txt").write_text("".join(f"{line}\n" for line in result.diff))
    for prefix, play in (("", result.play), ("control-", result.twin)):
        if play is not None:
            _write_play(place, prefix, play)


def _write_play(place: Path, prefix: str, play: Play) -> None:
    (place / f"{prefix}notes.txt").write_text("".join(f"{note}\n" for note in play.notes))
    if play.trace:
        (place / f"{prefix}trace.jsonl").write_text("".join(play.trace))
    if play.output:
        (place / f"{prefix}output.txt").write_text(play.output)
    write_pcap(place / f"{prefix}frames.pcap", play.frames)


def write_pcap(path: Path, frames: Iterable[tuple[int, bytes]]) -> None:
    """Write Ethernet frames, each with its time in ns, as pcap."""
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, snaplen=65536, linktype=dpkt.pcap.DLT_EN10MB, nano=True)
        for now, frame in frames:
            writer.writepkt(frame, ts=now / _NS)
