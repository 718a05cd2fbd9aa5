"""A finding as the text of a test, which fails as long as the finding is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from xennet.fuzz.finding_file import Recorded
from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.reduction import value_of
from xennet.fuzz.target import Target

_TEXT = '''"""{title}: {where}"""

from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.target_table import open_target


def section(size, parts):
    """``size`` bytes, zero but for the hexadecimal ``parts`` at their offsets."""
    content = bytearray(size)
    for offset, part in parts.items():
        part = bytes.fromhex(part)
        content[offset : offset + len(part)] = part
    return bytes(content)


INPUT = FuzzInput(
    {target!r},
    (
{sections}    ),
)


def test_{name}():
    target = open_target({target!r}, known=frozenset({known!r}))
    try:
        finding = target.execute(INPUT)
    finally:
        target.close()
    assert finding is None, finding
'''
#: Zeros between two parts of a section that are told apart.
_GAP = re.compile(rb"\0{8,}")


def pytest_text(recorded: Recorded, target: Target) -> str:
    """The text of a test for the finding of an input of ``target``; it needs pytest and xennet."""
    finding, fuzz_input = recorded.finding, recorded.fuzz_input
    assert finding is not None
    words = re.sub(r"\W+", "_", f"{fuzz_input.target} {finding.rule}".lower()).strip("_")
    where = finding.where.encode("unicode_escape").decode().replace('"', "'")
    return _TEXT.format(
        title=f"{fuzz_input.target}, {finding.rule}".replace('"', "'"),
        where=where,
        target=fuzz_input.target,
        known=sorted(recorded.known),
        name=words,
        sections="".join(_section_lines(fuzz_input, target)),
    )


def _section_lines(fuzz_input: FuzzInput, target: Target) -> Iterator[str]:
    for name, content in fuzz_input.sections:
        yield f"        ({name!r}, section({len(content)}, {{\n"
        for offset, part in _parts(content, _begins(fuzz_input, target, name)):
            said = _values(fuzz_input, target, name, offset, len(part))
            yield f'            {offset}: "{part.hex()}",{said}\n'
        yield "        })),\n"


def _begins(fuzz_input: FuzzInput, target: Target, section: str) -> list[int]:
    """Where slots begin in a section."""
    begins: dict[int, int] = {}
    for field in target.fields(fuzz_input):
        if field.section == section and field.slot is not None:
            before = begins.get(field.slot, field.offset)
            begins[field.slot] = min(before, field.offset)
    return sorted(begins.values())


def _parts(content: bytes, begins: list[int]) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of what is not zero, cut where slots begin."""
    edges = sorted({0, *(begin for begin in begins if begin < len(content)), len(content)})
    for start, end in pairwise(edges):
        at = start
        for gap in [*_GAP.finditer(content, start, end), None]:
            stop = end if gap is None else gap.start()
            while at < stop:
                part = content[at : min(at + 32, stop)]
                if part.strip(b"\0"):
                    yield at, part
                at += len(part)
            at = end if gap is None else gap.end()


def _values(fuzz_input: FuzzInput, target: Target, section: str, offset: int, size: int) -> str:
    """A comment with the fields that begin in a part."""
    inside = [
        field
        for field in target.fields(fuzz_input)
        if field.section == section and offset <= field.offset < offset + size
    ]
    if not inside:
        return ""
    slot = "" if inside[0].slot is None else f"slot {inside[0].slot}: "
    values = (f"{field.name}={value_of(fuzz_input, field)}" for field in inside)
    return f"  # {slot}{' '.join(values)}"
