"""Results as one HTML page, which is well-formed XML too and needs no other file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from xennet.check.reports.as_json import versions
from xennet.check.reports.as_text import unannounced_lines
from xennet.check.reports.plain_text import fit_for_xml
from xennet.check.runner import Play, Result
from xennet.check.target import Target

_STYLE = """
:root {
  color-scheme: light dark;
  --line: #bbb; --pre: #f4f4f4; --good: #dff0d8; --bad: #f2c4c4; --rest: #eee;
}
@media (prefers-color-scheme: dark) {
  :root { --line: #555; --pre: #222; --good: #1d3a22; --bad: #5a2328; --rest: #2c2c2c; }
}
body { font-family: sans-serif; margin: 2em; max-width: 75em; }
h1, h2, li, code { overflow-wrap: anywhere; }
table { border-collapse: collapse; }
td, th { border: 1px solid var(--line); padding: 0.2em 0.6em; }
td, th { text-align: left; vertical-align: top; }
pre { background: var(--pre); padding: 0.6em; overflow-x: auto; white-space: pre-wrap; }
.pass { background: var(--good); } .FAIL, .XPASS { background: var(--bad); }
.xfail, .unsupported { background: var(--rest); }
@media (max-width: 50em) {
  body { margin: 0.8em; } td, th { padding: 0.2em; } .more { display: none; }
  td:nth-child(2) { overflow-wrap: anywhere; }
}
"""
#: Most notes of a peer that are shown of a play.
_NOTES = 200


def results_html(target: Target, results: Sequence[Result], not_played: Sequence[str] = ()) -> str:
    """The page: versions and counts, a table of all checks, the evidence of those that are not as
    expected."""
    return "\n".join(_page(target, results, not_played)) + "\n"


def _page(target: Target, results: Sequence[Result], not_played: Sequence[str]) -> Iterator[str]:
    title = f"xennet check {target.side} {target.name}"
    yield "<!DOCTYPE html>"
    yield '<html xmlns="http://www.w3.org/1999/xhtml" lang="en">'
    yield '<head><meta charset="utf-8" />'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1" />'
    yield f"<title>{_text(title)}</title>"
    yield f"<style>{_STYLE}</style></head><body><h1>{_text(title)}</h1>"
    told = ", ".join(f"{name} {value}" for name, value in versions().items())
    yield f"<p>Versions: {_text(told)}.</p>"
    words = [result.word for result in results]
    counts = ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))
    yield f"<p>{len(results)} checks: {_text(counts)}.</p>"
    if not_played:
        yield f"<p>The run was interrupted before {_text(', '.join(not_played))}.</p>"
    yield from (f"<p>{_text(line)}</p>" for line in unannounced_lines(results))
    yield '<table><tr><th>verdict</th><th>check</th><th class="more">outcome</th>'
    yield '<th class="more">control</th><th class="more">severity</th><th class="more">tier</th>'
    yield "<th>what it plays</th></tr>"
    for result in results:
        yield from _row(result)
    yield "</table>"
    for result in results:
        if not result.good or result.known is not None:
            yield from _details(result)
    yield "</body></html>"


def _row(result: Result) -> Iterator[str]:
    rule = result.rule
    name = _text(result.check.id)
    if not result.good or result.known is not None:
        name = f'<a href="#{name}">{name}</a>'
    yield f'<tr class="{result.word}"><td>{result.word}</td><td>{name}</td>'
    for value in (result.seen or "", result.control or "", rule.severity, rule.tier):
        yield f'<td class="more">{_text(value)}</td>'
    yield f"<td>{_text(result.check.summary)}</td></tr>"


def _details(result: Result) -> Iterator[str]:
    rule, evidence = result.rule, result.evidence
    yield f'<h2 id="{_text(result.check.id)}">{_text(result.check.id)}: {result.word}</h2>'
    yield f"<p>{_text(result.check.summary)}</p>"
    yield f"<p>Rule {_text(rule.id)}: {_text(rule.text)}<br />"
    yield f"{_text(rule.source)} of Xen {_text(rule.release)}: {_text(rule.anchor)}</p>"
    if result.known is not None:
        yield f"<p>Known: {_text(str(result.known))}</p>"
    yield "<ul>" + "".join(f"<li>{_text(one)}</li>" for one in result.problems) + "</ul>"
    if result.unannounced:
        yield f"<p>Not announced by the driver: {', '.join(result.unannounced)}</p>"
    if result.again:
        yield f"<p>Again: <code>{_text(result.again)}</code></p>"
    if evidence:
        rows = (
            f"<tr><th>{_text(key)}</th><td>{_text(value)}</td></tr>"
            for key, value in evidence.items()
        )
        yield f"<table>{''.join(rows)}</table>"
    if result.diff:
        yield "<p>The control twin differs in (hostile | control):</p>"
        yield f"<pre>{_text(chr(10).join(result.diff))}</pre>"
    if result.play is not None:
        if result.play.output:
            yield f"<p>Its output:</p><pre>{_text(result.play.output)}</pre>"
        yield from _notes(result.play)


def _notes(play: Play) -> Iterator[str]:
    shown = [str(note) for note in play.notes[:_NOTES]]
    if more := len(play.notes) - len(shown):
        shown.append(f"... and {more} more")
    if shown:
        yield f"<p>What the peer did and saw:</p><pre>{_text(chr(10).join(shown))}</pre>"


def _text(value: object) -> str:
    return escape(fit_for_xml(str(value)))
