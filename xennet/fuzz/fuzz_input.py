"""What one execution of a target is made of: named sections of bytes."""

from __future__ import annotations

from attrs import evolve, frozen


@frozen
class Section:
    """A part of a target's inputs: its name, and how many bytes it has at most.

    Bytes that are missing at its end are zero, so zero bytes have to mean "as usual": a grant table
    would be told as what differs from the usual one.
    """

    name: str
    size: int


@frozen
class FuzzInput:
    """An input of ``target``: its sections in the target's order, from the first up to any of them.

    ``sections``: pairs of name and content. A section that is not there is all zero.
    """

    target: str
    sections: tuple[tuple[str, bytes], ...]

    def section(self, name: str) -> bytes:
        """The content of the section ``name``; empty if it is not there."""
        return next((content for known, content in self.sections if known == name), b"")

    def with_section(self, name: str, content: bytes) -> FuzzInput:
        """This input with another content of the section ``name``, which is added if it is not
        there."""
        if not any(known == name for known, _ in self.sections):
            return evolve(self, sections=(*self.sections, (name, content)))
        changed = ((known, content if known == name else old) for known, old in self.sections)
        return evolve(self, sections=tuple(changed))

    @property
    def size(self) -> int:
        """Bytes of all sections, without zeros at their ends: what a smaller input has fewer of."""
        return sum(len(content.rstrip(b"\0")) for _, content in self.sections)


class RawError(ValueError):
    """Bytes are no input of a target."""


def from_raw(target: str, sections: tuple[Section, ...], raw: bytes) -> FuzzInput:
    """The input whose sections lie end to end in ``raw``, each but the last with its whole size.

    ``raw``: 0 bytes up to the sizes of all ``sections``; a page alone is an input of a target whose
    first section is that page. Raises RawError for more.
    """
    whole = sum(section.size for section in sections)
    if len(raw) > whole:
        raise RawError(f"an input of {target} has up to {whole} bytes, not {len(raw)}")
    found, at = [], 0
    for section in sections:
        if at < len(raw):
            found.append((section.name, raw[at : at + section.size]))
        at += section.size
    return FuzzInput(target, tuple(found))


def to_raw(sections: tuple[Section, ...], fuzz_input: FuzzInput) -> bytes:
    """The bytes from which :func:`from_raw` makes an input that is executed in the same way; the
    very same one if all its sections but the last have their whole size."""
    contents = dict(fuzz_input.sections)
    there = [i for i, section in enumerate(sections) if section.name in contents]
    last = there[-1] if there else 0
    whole = (contents.get(known.name, b"").ljust(known.size, b"\0") for known in sections[:last])
    return b"".join(whole) + contents.get(sections[last].name, b"")
