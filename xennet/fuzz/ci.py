"""Findings that a base directory does not have."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from attrs import evolve, frozen

from xennet.fuzz.campaign import Campaign, Result, Settings, Statistics
from xennet.fuzz.corpus import Corpus
from xennet.fuzz.finding_file import Recorded
from xennet.fuzz.open_targets import OPEN_TARGETS
from xennet.workers.mapping import Workers


@frozen
class NewFindings:
    """How a campaign ended: ``result`` has the new findings only, ``files`` where they are by the
    names of their clusters; ``old``: files of the base whose findings are still there, ``gone``:
    those without, or with one of another rule."""

    settings: Settings
    result: Result
    files: dict[str, Path]
    old: tuple[Path, ...]
    gone: tuple[Path, ...]


def new_findings(
    settings: Settings,
    base: Path,
    new: Path | None,
    workers: Workers,
    over: Callable[[], bool],
    tell: Callable[[Statistics], None],
) -> NewFindings:
    """Make a campaign that begins with the inputs in ``base``, and tell what is not among the
    findings there, each of which is executed first, behind the rules that it was found behind. New
    ones are written to ``new``.

    Raises ContainerError, OSError.
    """
    corpus = Corpus(base, settings.target)
    with closing(Campaign(settings, corpus.load(), tell)) as campaign:
        keys = {
            path: _key_of(settings.target, recorded)
            for path, recorded in corpus.recorded_findings()
        }
        result = campaign.run(workers, over)
        known = set(keys.values())
        clusters = tuple(
            each for each in result.clusters if (each.finding.rule, each.trace) not in known
        )
        files = {}
        if new is not None:
            files = campaign.write_findings(Corpus(new, settings.target), clusters)
    return NewFindings(
        settings,
        evolve(result, clusters=clusters),
        files,
        tuple(path for path, key in keys.items() if key is not None),
        tuple(path for path, key in keys.items() if key is None),
    )


def _key_of(target: str, recorded: Recorded) -> tuple[str, bytes] | None:
    """Rule and trace of the finding that was recorded; None if it is gone, or of another rule. An
    input with which nothing was recorded has whatever finding it has now."""
    with OPEN_TARGETS.using(target, recorded.known) as opened:
        now = opened.execute(recorded.fuzz_input)
        if now is None or now.rule != (recorded.finding or now).rule:
            return None
        return now.rule, opened.trace()
