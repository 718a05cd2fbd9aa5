"""Record files of each form: cases of steps, lists of names, regions of memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xennet.netmap.replay.names import are_names, play_names
from xennet.netmap.replay.play import Played, cases_of, play, read_record
from xennet.netmap.replay.regions import are_regions, play_regions


def play_files(paths: list[Path]) -> Iterator[tuple[Path, Played]]:
    """Play record files one after the other, each on a machine of its own. Raises RecordError."""
    for path in paths:
        record = read_record(path)
        if are_names(record):
            yield path, play_names(record)
        elif are_regions(record):
            yield path, play_regions(record)
        else:
            yield path, play(cases_of(path, record))
