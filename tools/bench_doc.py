"""Puts the figures of a bench into docs/performance.md: ``python tools/bench_doc.py FILE``.

FILE is what ``python -m xennet.bench --json FILE`` wrote. The tables of the sections that it has
take the place of the generated part of the page; the picture is drawn anew if the frames of the
section vif are there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from xennet.bench.figures import FORMAT, Json
from xennet.bench.markdown import tables
from xennet.bench.plot import draw

#: The lines around the generated part of the page.
BEGIN = "<!-- figures: begin -->"
END = "<!-- figures: end -->"


def page(text: str, results: Json) -> str:
    """``text`` of the page with the tables of ``results`` between the marks."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the page has no part between {BEGIN} and {END}")
    body = "\n\n".join(table.markdown() for table in tables(results))
    left_out = "".join(f"\n\nLeft out: {reason}." for reason in results["missing"])
    return f"{head}{BEGIN}\n\n{body}{left_out}\n\n{END}{tail}"


def read(file: Path) -> Json:
    """The figures in ``file``."""
    results: Json = json.loads(file.read_text())
    if results.get("format") != FORMAT:
        raise SystemExit(f"{file} is no {FORMAT} but {results.get('format')!r}")
    return results


def main() -> None:
    """Write the page and its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    arguments = parser.parse_args()
    results = read(arguments.file)
    target = arguments.docs / "performance.md"
    target.write_text(page(target.read_text(), results))
    if "vif" in results:
        draw(results, arguments.docs / "performance.svg")


if __name__ == "__main__":
    main()
