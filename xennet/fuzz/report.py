"""What is told of a campaign: as a document for programs, in lines for people."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xennet.fuzz.campaign import Result, Settings, Statistics
from xennet.fuzz.ci import NewFindings
from xennet.fuzz.clusters import Cluster
from xennet.fuzz.line_coverage import FileCoverage

#: Names of the JSON layouts; a new number when a key changes its meaning or goes away.
FORMAT, CI_FORMAT, COVERAGE_FORMAT = "xennet-fuzz/1", "xennet-fuzz-ci/1", "xennet-fuzz-coverage/1"
#: Letters of a finding's evidence in a line; the document has all of it.
_SHOWN = 120


def document(
    settings: Settings, result: Result, files: Mapping[str, Path], interrupted: str
) -> dict[str, Any]:
    """A campaign as JSON. ``files``: where the findings are, by the names of their clusters;
    ``interrupted``: the signal that ended it, "" if none did."""
    return {
        "format": FORMAT,
        "target": settings.target,
        "seeds": list(settings.seeds),
        "known": sorted(settings.known),
        "interrupted": interrupted or None,
        "statistics": result.statistics.to_json(),
        "unsorted": result.unsorted,
        "findings": [_finding(cluster, files.get(cluster.name)) for cluster in result.clusters],
    }


def _finding(cluster: Cluster, file: Path | None) -> dict[str, Any]:
    return {
        "name": cluster.name,
        "rule": cluster.finding.rule,
        "where": cluster.finding.where,
        "trace": cluster.trace.hex(),
        "count": cluster.count,
        "size": cluster.fuzz_input.size,
        "file": None if file is None else str(file),
        "again": "" if file is None else shlex.join(("xennet", "fuzz", "replay", str(file))),
    }


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The same in lines."""
    statistics = document["statistics"]
    yield f"{document['target']}: {progress(statistics)}"
    yield (
        f"  {statistics['rounds']} rounds of {len(document['seeds'])} seeds from "
        f"{document['seeds'][0]}, {statistics['packets_per_execution']:.2f} packets an execution, "
        f"{statistics['branches']} branches, stability {100 * statistics['stability']:.1f} %"
    )
    for finding in document["findings"]:
        yield f"  {finding['rule']}: {finding['count']} times, {_shortened(finding['where'])}"
        if finding["file"] is not None:
            yield f"    {finding['file']}"
            yield f"    again: {finding['again']}"
    if document["unsorted"]:
        yield f"  and {document['unsorted']} more crashes of these rules"
    if document["interrupted"]:
        yield f"  INTERRUPTED by {document['interrupted']}"
    elif not document["findings"]:
        yield "  nothing was found"


def _shortened(where: str) -> str:
    return where if len(where) <= _SHOWN else f"{where[: _SHOWN - 3]}..."


def progress(statistics: Mapping[str, Any]) -> str:
    """How far a campaign is, in one line."""
    return (
        f"{statistics['executions']:,} executions in {statistics['seconds']:.1f} s, "
        f"{statistics['executions_per_second']:,.0f}/s, {statistics['features']} features, "
        f"corpus {statistics['corpus']}, {statistics['findings']:,} crashes in "
        f"{statistics['clusters']} clusters"
    )


def progress_of(statistics: Statistics) -> str:
    """:func:`progress` of a campaign that goes on."""
    return progress(statistics.to_json())


def ci_document(targets: Sequence[NewFindings], interrupted: str) -> dict[str, Any]:
    """What is new in each target, as JSON. ``interrupted``: as for :func:`document`."""
    return {
        "format": CI_FORMAT,
        "interrupted": interrupted or None,
        "targets": [_new(target) for target in targets],
    }


def _new(target: NewFindings) -> dict[str, Any]:
    about = document(target.settings, target.result, target.files, "")
    kept = ("target", "seeds", "known", "statistics", "findings")
    files = {"old": [str(path) for path in target.old], "gone": [str(path) for path in target.gone]}
    return {key: about[key] for key in kept} | files


def ci_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The same in lines."""
    for target in document["targets"]:
        yield f"{target['target']}: {progress(target['statistics'])}"
        for path in target["gone"]:
            yield f"  gone: {path}"
        for finding in target["findings"]:
            where = _shortened(finding["where"])
            yield f"  NEW {finding['rule']}: {finding['count']} times, {where}"
            if finding["file"] is not None:
                yield f"    {finding['file']}"
                yield f"    again: {finding['again']}"
    if document["interrupted"]:
        yield f"INTERRUPTED by {document['interrupted']}"
    elif not any(target["findings"] for target in document["targets"]):
        yield "nothing new was found"


def coverage_document(
    target: str, inputs: int, stability: float, files: Sequence[FileCoverage]
) -> dict[str, Any]:
    """Which lines a corpus of ``inputs`` reaches, as JSON."""
    return {
        "format": COVERAGE_FORMAT,
        "target": target,
        "inputs": inputs,
        "stability": stability,
        "files": [
            {
                "file": each.file,
                "lines": len(each.lines),
                "executed": len(each.executed),
                "missed": each.missed,
            }
            for each in files
        ],
    }


def coverage_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The same in lines."""
    stable = f"stability {100 * document['stability']:.1f} %"
    yield f"{document['target']}: {document['inputs']} inputs, {stable}"
    for file in document["files"]:
        missed = f", not {file['missed']}" if file["missed"] else ""
        yield f"  {file['file']}: {file['executed']} of {file['lines']} lines{missed}"
