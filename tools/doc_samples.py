"""Runs what the documents show, and writes what comes out into them (or checks it with --check).

In README.md, docs/*.md and docs/course/*.md:

* a ```python block is a program of its own; it has to end without an error. A ```text block right
  behind it is what it prints;
* between ``<!-- tables of MODULE -->`` and ``<!-- end of tables -->`` are the tables of that
  module's docstring;
* a ```text block behind ``<!-- $ xennet ... -->`` is what that command prints, of it the lines that
  ``<!-- ... | lines: REGEX -->`` finds, "..." standing for those between them. A line that
  underlines a kept one is kept too.

Programs and commands run in the repository's root.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "course").glob("*.md")),
]

_OUT = r"```text\n(?P<out>.*?)^```\n"
_PROGRAM = re.compile(rf"^```python\n(?P<code>.*?)^```\n(?:\n{_OUT})?", re.M | re.S)
_COMMAND = re.compile(
    rf"^<!-- \$ xennet (?P<words>.*?)(?: \| lines: (?P<lines>.*?))? -->\n{_OUT}", re.M | re.S
)
_TABLES = re.compile(
    r"^<!-- tables of (?P<module>[\w.]+) -->\n(?P<out>.*?)^<!-- end of tables -->\n", re.M | re.S
)
#: A simple table of a docstring, with the line that ends in a colon before it.
_TABLE = re.compile(r"^([^\n]+):\n\n=+ =+\n(.*?)^=+ =+$", re.M | re.S)
_RULE = re.compile(r"^ *─+$")


class SampleError(Exception):
    """A sample of a document does not run."""


def updated(text: str) -> str:
    """The document ``text`` with the outputs of a run today; SampleError."""
    kinds = ((_PROGRAM, _run_program), (_COMMAND, _run_command), (_TABLES, _tables))
    for pattern, run in kinds:
        text = pattern.sub(lambda match, run=run: _with_output(match, run(match)), text)
    return text


def programs(text: str) -> list[str]:
    """The programs of a document."""
    return [match["code"] for match in _PROGRAM.finditer(text)]


def _with_output(match: re.Match[str], out: str) -> str:
    if match["out"] is None:
        return match[0]
    begin, end = (at - match.start() for at in match.span("out"))
    return match[0][:begin] + out + match[0][end:]


def _run_program(match: re.Match[str]) -> str:
    return _run([sys.executable, "-c", match["code"]], match["code"])


def _run_command(match: re.Match[str]) -> str:
    words = match["words"].split()
    # 1: the verdict is not good, which may be the point of the sample.
    out = _run([sys.executable, "-m", "xennet", *words], f"xennet {match['words']}", good=(0, 1))
    if match["lines"] is None:
        return out
    return "".join(_excerpt(out.splitlines(), re.compile(match["lines"])))


def _tables(match: re.Match[str]) -> str:
    out = ""
    for title, rows in _TABLE.findall(import_module(match["module"]).__doc__ or ""):
        cells = (row.split(maxsplit=1) for row in rows.splitlines())
        table = "".join(f"| {name} | {_markdown(text)} |\n" for name, text in cells)
        out += f"\n{_markdown(title)}:\n\n| | |\n|---|---|\n{table}"
    return out + "\n"


def _markdown(text: str) -> str:
    return re.sub(r":mod:`~?([\w.]+)`", r"`\1`", text).replace("``", "`")


def _run(command: list[str], what: str, good: tuple[int, ...] = (0,)) -> str:
    plain = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "XENNET_ENGINE": "plain"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | plain | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    if done.returncode not in good:
        raise SampleError(f"exit {done.returncode} of\n{what}\n{done.stderr}")
    return "".join(line.rstrip() + "\n" for line in done.stdout.splitlines())


def _excerpt(lines: list[str], wanted: re.Pattern[str]) -> Iterator[str]:
    kept = skipped = begun = False
    for line in lines:
        kept = bool(wanted.search(line)) or (kept and _RULE.match(line) is not None)
        if kept and skipped and begun:
            yield "  ...\n"
        if kept:
            begun = True
            yield line + "\n"
        skipped = not kept


def main() -> None:
    check = "--check" in sys.argv
    stale = []
    for document in DOCUMENTS:
        text = document.read_text()
        if (new := updated(text)) != text:
            stale.append(document.name)
            if not check:
                document.write_text(new)
    if check and stale:
        sys.exit(f"{', '.join(stale)}: not what comes out today, run tools/doc_samples.py")


if __name__ == "__main__":
    main()
