"""An input of the fuzzer as bytes: a versioned container with a checksum.

Little-endian:

    8   magic "xenfuzz\\0"
    2   version: 1
    2   number of sections, up to MAX_SECTIONS
    1+n name of the target, behind its length (1 to 255)
    then for each section
    1+n its name, behind its length
    4+n its content, behind its length
    and at the end
    4   CRC-32 of all bytes before

A container has up to MAX_BYTES. A change of the layout gets another version.
"""

from __future__ import annotations

import struct
from pathlib import Path
from zlib import crc32

from xennet.fuzz.fuzz_input import FuzzInput
from xennet.whole_file import write_whole

MAGIC = b"xenfuzz\0"
VERSION = 1
MAX_BYTES = 1 << 20
MAX_SECTIONS = 64

_HEAD = struct.Struct("<8sHH")
_LENGTH = struct.Struct("<I")


class ContainerError(ValueError):
    """Bytes are no container, or a damaged one: of which file, at which offset, and why."""

    def __init__(self, file: str, offset: int, problem: str) -> None:
        super().__init__(f"{file}: offset {offset}: {problem}")
        self.offset = offset


def to_bytes(fuzz_input: FuzzInput) -> bytes:
    """The container of ``fuzz_input``. Raises ValueError for one that does not fit into a
    container: a name that is empty, not ASCII or too long, too many sections, too many bytes."""
    if len(fuzz_input.sections) > MAX_SECTIONS:
        raise ValueError(f"an input has up to {MAX_SECTIONS} sections")
    parts = [_HEAD.pack(MAGIC, VERSION, len(fuzz_input.sections)), _named(fuzz_input.target)]
    for name, content in fuzz_input.sections:
        parts += [_named(name), _LENGTH.pack(len(content)), content]
    body = b"".join(parts)
    if len(body) + _LENGTH.size > MAX_BYTES:
        raise ValueError(f"a container has up to {MAX_BYTES} bytes")
    return body + _LENGTH.pack(crc32(body))


def from_bytes(data: bytes, file: str = "container") -> FuzzInput:
    """The input in a container. ``file``: its name in errors. Raises ContainerError."""
    return _Reader(data, file).read()


def write_file(path: Path, fuzz_input: FuzzInput) -> None:
    """Write a container to ``path``: as a whole or, if the process ends meanwhile, not at all.

    Raises OSError.
    """
    write_whole(path, to_bytes(fuzz_input))


def read_file(path: Path) -> FuzzInput:
    """The input in the file ``path``. Raises ContainerError, OSError."""
    with path.open("rb") as file:
        return from_bytes(file.read(MAX_BYTES + 1), str(path))


def _named(name: str) -> bytes:
    if not (name.isascii() and name.isprintable() and 0 < len(name) < 256):
        raise ValueError(f"{name!r} is no name of up to 255 printable ASCII characters")
    return bytes([len(name)]) + name.encode()


class _Reader:
    def __init__(self, data: bytes, file: str) -> None:
        self.data, self.file, self.at = data, file, 0
        self.end = len(data) - _LENGTH.size  # of what the checksum is of

    def read(self) -> FuzzInput:
        if len(self.data) > MAX_BYTES:
            raise self.error(f"more than {MAX_BYTES} bytes", MAX_BYTES)
        if self.data[: len(MAGIC)] != MAGIC:
            raise self.error("no container of xennet's fuzzer: its first bytes are not its magic")
        _, version, sections = _HEAD.unpack(self.take(_HEAD.size, "the head"))
        if version != VERSION:
            raise self.error(f"version {version}, and not {VERSION}", len(MAGIC))
        if sections > MAX_SECTIONS:
            raise self.error(f"{sections} sections, more than {MAX_SECTIONS}", len(MAGIC) + 2)
        target = self.name("the target")
        found = tuple(self.section() for _ in range(sections))
        if self.at != self.end:
            raise self.error(f"{self.end - self.at} bytes behind the last section")
        (checksum,) = _LENGTH.unpack_from(self.data, self.end)
        if (actual := crc32(self.data[: self.end])) != checksum:
            raise self.error(f"CRC-32 {checksum:08x}, of these bytes it is {actual:08x}")
        names = [name for name, _ in found]
        if len(set(names)) != len(names):
            raise self.error("two sections of one name")
        return FuzzInput(target, found)

    def section(self) -> tuple[str, bytes]:
        name = self.name("a section")
        (length,) = _LENGTH.unpack(self.take(_LENGTH.size, f"the length of {name!r}"))
        return name, self.take(length, f"the section {name!r}")

    def name(self, of: str) -> str:
        at = self.at
        raw = self.take(self.take(1, f"the name of {of}")[0], f"the name of {of}")
        text = raw.decode("latin-1")
        if not (text and text.isascii() and text.isprintable()):
            raise self.error(f"the name of {of} is {raw!r}", at)
        return text

    def take(self, size: int, what: str) -> bytes:
        if size > self.end - self.at:
            raise self.error(f"{what} has {size} bytes, {max(self.end - self.at, 0)} are left")
        self.at += size
        return self.data[self.at - size : self.at]

    def error(self, problem: str, at: int | None = None) -> ContainerError:
        return ContainerError(self.file, self.at if at is None else at, problem)
