"""Results as JUnit XML: a test case for each check."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from xennet.check.outcome import Outcome
from xennet.check.reports.as_json import versions
from xennet.check.reports.as_text import result_lines
from xennet.check.reports.plain_text import fit_for_xml
from xennet.check.runner import Result
from xennet.check.target import Target


def results_junit(
    target: Target, results: Sequence[Result], not_played: Sequence[str] = ()
) -> bytes:
    """One test suite, UTF-8. A check that is unsupported or fails as it is known to is skipped, one
    that is not as expected is a failure, one that the run was interrupted before is an error."""
    bad = [result for result in results if not result.good]
    skipped = [result for result in results if _is_skipped(result)]
    root = ElementTree.Element("testsuites")
    suite = _element(
        root,
        "testsuite",
        name=f"xennet check {target.side} {target.name}",
        tests=str(len(results) + len(not_played)),
        failures=str(len(bad)),
        errors=str(len(not_played)),
        skipped=str(len(skipped)),
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    properties = _element(suite, "properties")
    for name, value in versions().items():
        _element(properties, "property", name=name, value=value)
    for result in results:
        case = _element(
            suite,
            "testcase",
            classname=f"{target.side}.{result.rule.id}",
            name=result.check.id,
            time=f"{result.seconds:.3f}",
        )
        if not result.good:
            told = "; ".join(result.problems)
            failure = _element(case, "failure", type=result.outcome, message=told)
            failure.text = fit_for_xml("\n".join(result_lines(result)))
        elif _is_skipped(result):
            known = result.known.reason if result.known is not None else ""
            reason = known or "; ".join(result.problems)
            _element(case, "skipped", message=f"{result.outcome}: {reason}")
    for name in not_played:
        case = _element(suite, "testcase", classname=f"{target.side}.interrupted", name=name)
        _element(case, "error", message="not played: the run was interrupted")
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _is_skipped(result: Result) -> bool:
    return result.good and result.outcome in (Outcome.UNSUPPORTED, Outcome.XFAIL)


def _element(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    fit = {name: fit_for_xml(value) for name, value in attributes.items()}
    return ElementTree.SubElement(parent, tag, fit)
