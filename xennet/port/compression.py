"""Compressed captures: gzip, xz and Zstandard. Content tells how to read a file, its name how to
write.

The streams are the standard library's; Zstandard is in it from Python 3.14 on (compression.zstd),
and for older Pythons in backports.zstd, which is the same module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from errno import EILSEQ
from functools import partial
from importlib import import_module
from io import DEFAULT_BUFFER_SIZE, BufferedIOBase, BufferedReader, RawIOBase
from typing import Any, Protocol

from attrs import frozen

from xennet.port.base import PortError
from xennet.port.window import Window

_LONGEST_MAGIC = 6
#: Part of an error's text: offsets are those of the capture before it was compressed.
_UNPACKED = " of the unpacked file"


class Writable(Protocol):
    """The file that a recording writes to."""

    def write(self, data: bytes, /) -> object: ...

    def close(self) -> None: ...


@frozen
class _Format:
    """One compression.

    ``suffix`` of file names; one of ``magics`` starts a file (RFC 1952, the xz file format, RFC
    8878). ``reader``: the class of the decompressing stream, and the exceptions that it raises for
    bad input. ``writer``: returns the function that makes a compressing stream on a file.
    """

    name: str
    suffix: str
    magics: tuple[bytes, ...]
    reader: Callable[[Any], tuple[BufferedIOBase, tuple[type[Exception], ...]]]
    writer: Callable[[], Callable[[Any], Writable]]


def _zstd() -> Any:
    """The module for Zstandard. Raises PortError if this Python has none."""
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    try:
        return import_module(name)
    except ImportError as e:
        raise PortError(f"Zstandard files need the Python module {name}: {e}") from e


def _read_gzip(file: Any) -> tuple[Any, tuple[type[Exception], ...]]:
    import gzip
    import zlib

    return gzip.GzipFile(fileobj=file), (EOFError, zlib.error, gzip.BadGzipFile)


def _read_xz(file: Any) -> tuple[Any, tuple[type[Exception], ...]]:
    import lzma

    decoder = partial(lzma.LZMADecompressor, lzma.FORMAT_XZ)
    return BufferedReader(_XzStreams(file, decoder)), (EOFError, lzma.LZMAError)


def _read_zstd(file: Any) -> tuple[Any, tuple[type[Exception], ...]]:
    zstd = _zstd()
    return zstd.ZstdFile(file), (EOFError, zstd.ZstdError)


def _write_gzip() -> Callable[[Any], Any]:
    """The writer of gzip, without name and time, so that equal recordings are equal files."""
    import gzip

    return lambda file: gzip.GzipFile("", "wb", 6, file, mtime=0)


def _write_xz() -> Callable[[Any], Any]:
    import lzma

    return lambda file: lzma.LZMAFile(file, "wb")


def _write_zstd() -> Callable[[Any], Any]:
    zstd = _zstd()
    return lambda file: zstd.ZstdFile(file, "wb")


_ZSTD_MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes((low, 0x2A, 0x4D, 0x18)) for low in range(0x50, 0x60)))
_FORMATS = (
    _Format("gzip", ".gz", (b"\x1f\x8b",), _read_gzip, _write_gzip),
    _Format("xz", ".xz", (b"\xfd7zXZ\0",), _read_xz, _write_xz),
    _Format("Zstandard", ".zst", _ZSTD_MAGICS, _read_zstd, _write_zstd),
)


class _Packed(RawIOBase):
    """The bytes of a window as a file that a decompressor reads."""

    def __init__(self, window: Window) -> None:
        self._window = window

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any, /) -> int:
        window = self._window
        if not window.need(1):
            return 0
        size = min(len(target), window.end - window.pos)
        target[:size] = window.view[window.pos : window.pos + size]
        window.pos += size
        return size


class _XzStreams(RawIOBase):
    """The contents of several xz streams, with or without padding between them.

    lzma.LZMAFile takes a damaged stream behind a whole one for the end, and padding for a stream
    that is cut.
    """

    def __init__(self, file: BufferedReader, decoder: Callable[[], Any]) -> None:
        self._file, self._new_decoder = file, decoder
        self._decoder, self._packed = decoder(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any, /) -> int:
        while True:
            if self._decoder.eof:
                self._packed = self._decoder.unused_data
                while not (start := self._packed.lstrip(b"\0")):
                    self._packed = self._file.read1(DEFAULT_BUFFER_SIZE)
                    if not self._packed:
                        return 0
                self._decoder, self._packed = self._new_decoder(), start
            elif self._decoder.needs_input:
                self._packed = self._file.read1(DEFAULT_BUFFER_SIZE)
                if not self._packed:
                    raise EOFError("Compressed file ended before the end-of-stream marker")
            data = self._decoder.decompress(self._packed, len(target))
            self._packed = b""
            if data:
                target[: len(data)] = data
                return len(data)


class _Unpacked:
    """The contents of a compressed file. Raises OSError where they cannot be decompressed."""

    def __init__(self, form: _Format, file: Any) -> None:
        self._name = form.name
        self._stream, self._errors = form.reader(file)

    def readinto(self, target: memoryview, /) -> int:
        # One step of the decompressor, so that an error does not lose the bytes before it.
        try:
            return self._stream.readinto1(target)
        except self._errors as e:
            raise OSError(EILSEQ, f"{self._name}: {e}") from e


def unpacked(window: Window) -> Window:
    """A window on the contents of the file in ``window``; ``window`` itself if it is not
    compressed."""
    window.need(_LONGEST_MAGIC)
    start = window.view[window.pos : min(window.end, window.pos + _LONGEST_MAGIC)].tobytes()
    for form in _FORMATS:
        if start.startswith(form.magics):
            file = BufferedReader(_Packed(window))
            return Window(_Unpacked(form, file), window.path, unit=_UNPACKED)
    return window


def packing(path: str) -> tuple[str, Callable[[Writable], Writable]]:
    """The name ``path`` without the suffix of a compression, and a function that compresses into a
    file.

    The function takes a file and returns the stream to write to; closing the stream leaves the file
    open. Without such a suffix it returns the file itself. Raises PortError if this Python lacks
    the compression.
    """
    for form in _FORMATS:
        if path.lower().endswith(form.suffix):
            return path[: -len(form.suffix)], form.writer()
    return path, lambda file: file
