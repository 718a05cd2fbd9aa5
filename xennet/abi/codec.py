"""From a Construct definition to a `struct` codec and to a table of offsets.

Construct says what a structure looks like; `struct.Struct` reads it many times faster.
`derive` walks the one to make the other, so nothing is written down twice.  Field names are
dotted paths from the outermost structure: `u.gso.size`, `source.u.ref`, `data.0`.
"""

from __future__ import annotations

import struct
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from attrs import field, frozen
from construct import (
    Array,
    Bytes,
    Construct,
    FormatField,
    Padded,
    Pass,
    Renamed,
    SizeofError,
    Struct,
)
from construct import Union as ConstructUnion

Readable = bytes | bytearray | memoryview

# Path of a union -> the member to read it as; "" is the path of a union at the top.
UnionChoice = Mapping[str, str]


def union(*members: Construct) -> Construct:
    """A C union: as long as its longest member, every member at offset 0.

    Construct's own Union has no size and leaves short members short.  Parsing gives all
    members; building takes the first member (in header order) that the mapping has and pads it
    with zeroes.
    """
    return Padded(max(member.sizeof() for member in members), ConstructUnion(None, *members))


class _Node(NamedTuple):
    """A named place in a structure; `code` is its struct format, None unless it is a leaf."""

    name: str
    offset: int
    size: int
    code: str | None = None


_Choose = Callable[[str, Sequence[Construct]], Sequence[Construct]]


def _join(outer: str, inner: object) -> str:
    return f"{outer}.{inner}" if outer else str(inner)


@cache  # Construct computes it anew each time, field by field.
def _size(definition: Construct) -> int:
    if isinstance(definition, Renamed):
        return _size(definition.subcon)
    return int(definition.sizeof())


def _walk(
    definition: Construct, name: str, offset: int, choose: _Choose, elements: int | None = None
) -> Iterator[_Node]:
    """The nodes of ``definition``; of an array all elements, or the first ``elements``."""
    while isinstance(definition, Renamed):
        definition = definition.subcon
    if isinstance(definition, Padded) and definition.subcon is Pass:
        return  # the compiler's padding: a gap without a name
    try:
        size = _size(definition)
    except SizeofError as error:
        raise TypeError(f"{name or definition!r}: no C layout without a size") from error
    if isinstance(definition, FormatField) and definition.fmtstr.startswith("<"):
        yield _Node(name, offset, size, definition.fmtstr.lstrip("<"))
        return
    if isinstance(definition, Bytes):
        yield _Node(name, offset, size, f"{size}s")
        return
    yield _Node(name, offset, size)
    if isinstance(definition, Struct):
        for part in definition.subcons:
            yield from _walk(part, _join(name, part.name), offset, choose, elements)
            offset += _size(part)
    elif isinstance(definition, Array):
        stride = _size(definition.subcon)
        for i in range(definition.count)[:elements]:
            at = offset + i * stride
            yield from _walk(definition.subcon, _join(name, i), at, choose, elements)
    elif isinstance(definition, Padded) and isinstance(definition.subcon, ConstructUnion):
        for part in choose(name, definition.subcon.subcons):
            yield from _walk(part, _join(name, part.name), offset, choose, elements)
    else:
        raise TypeError(f"{name or definition!r}: no C layout for {definition!r}")


def layout(definition: Construct) -> dict[str, tuple[int, int]]:
    """Every named field of a structure: dotted name -> (offset, size), both in bytes.

    Nested structures and unions are listed themselves and with all their fields (of a union:
    of every member); an array is listed as a whole.  Paddings that the header does not name
    are gaps.  Raises TypeError for a definition that is not a C layout.
    """
    return {
        node.name: (node.offset, node.size)
        for node in _walk(definition, "", 0, lambda _, members: members, elements=1)
        if node.name and not any(part.isdigit() for part in node.name.split("."))
    }


@frozen(eq=False)
class Codec:
    """One flat reading of a structure: `struct` format, field names and offsets.

    `pack`, `pack_into(buffer, offset, *values)` and `unpack_from(buffer, offset=0)` are those of
    `struct.Struct` and raise `struct.error` as they do.  `pack_into` zeroes the bytes before it
    writes them, which another process can see: not for indices in shared memory.
    """

    name: str
    size: int
    format: str
    fields: tuple[str, ...]
    offsets: Mapping[str, int] = field(repr=False)
    sizes: Mapping[str, int] = field(repr=False)
    pack: Callable[..., bytes] = field(repr=False)
    pack_into: Callable[..., None] = field(repr=False)
    unpack_from: Callable[..., tuple[Any, ...]] = field(repr=False)

    @cached_property
    def record(self) -> type[Any]:
        """The named tuple that :meth:`read` returns; most codecs of a process read none."""
        return namedtuple(self.name, map(_attribute, self.fields))

    def read(self, buffer: Readable, offset: int = 0) -> Any:
        """The structure at `offset` as a named tuple called like it.

        Its attributes are the field names with "_" for "." and without leading underscores
        (`u_gso_size`, `data_0`, `pad` for `__pad`); that of a bare integer is `value`.
        """
        return self.record._make(self.unpack_from(buffer, offset))


def _attribute(name: str) -> str:
    return name.replace(".", "_").lstrip("_") or "value"


def derive(definition: Construct, union: UnionChoice | None = None) -> Codec:
    """The codec of a named Construct definition, flattened; paddings without a name are zeroes.

    Every union on the way needs a member: `derive(netif_extra_info, union={"u": "gso"})`.
    Raises ValueError when a union has no choice, the choice is no member of it, or a choice
    meets no union.
    """
    choices = dict(union or {})
    met: set[str] = set()

    def choose(name: str, members: Sequence[Construct]) -> Sequence[Construct]:
        met.add(name)
        chosen = [member for member in members if member.name == choices.get(name)]
        if not chosen:
            raise ValueError(
                f"{definition.name}: union {name!r} read as {choices.get(name)!r}, "
                f"its members are {[member.name for member in members]}"
            )
        return chosen

    leaves = [node for node in _walk(definition, "", 0, choose) if node.code is not None]
    if unknown := choices.keys() - met:
        raise ValueError(f"{definition.name}: no union at {sorted(unknown)}")

    codes, position = ["<"], 0
    for leaf in leaves:
        codes += [f"{leaf.offset - position}x"] if leaf.offset > position else []
        codes += [str(leaf.code)]
        position = leaf.offset + leaf.size
    size = definition.sizeof()
    codes += [f"{size - position}x"] if size > position else []

    packer = struct.Struct("".join(codes))
    fields = tuple(leaf.name for leaf in leaves)
    return Codec(
        name=definition.name,
        size=packer.size,
        format=packer.format,
        fields=fields,
        offsets=MappingProxyType({leaf.name: leaf.offset for leaf in leaves}),
        sizes=MappingProxyType({leaf.name: leaf.size for leaf in leaves}),
        pack=packer.pack,
        pack_into=packer.pack_into,
        unpack_from=packer.unpack_from,
    )
