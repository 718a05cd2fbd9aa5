"""Inputs of the fuzzer as bytes and back; damage is one clear error."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennet.fuzz.container import (
    MAX_BYTES,
    MAX_SECTIONS,
    ContainerError,
    from_bytes,
    read_file,
    to_bytes,
    write_file,
)
from xennet.fuzz.fuzz_input import FuzzInput, RawError, Section, from_raw, to_raw

NAMES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255)
INPUTS = st.builds(
    lambda target, sections: FuzzInput(target, tuple(sections.items())),
    NAMES,
    st.dictionaries(NAMES, st.binary(max_size=5000), max_size=6),
)
ONE = FuzzInput("tx", (("tx page", bytes(range(200))), ("start", b"\1\0\0\0")))


@given(INPUTS)
def test_an_input_comes_back_as_it_was(fuzz_input: FuzzInput) -> None:
    assert from_bytes(to_bytes(fuzz_input)) == fuzz_input


def test_the_layout_is_what_its_docstring_says() -> None:
    body = b"xenfuzz\0" + struct.pack("<HH", 1, 1) + b"\2tx" + b"\1p" + struct.pack("<I", 2) + b"ab"
    assert to_bytes(FuzzInput("tx", (("p", b"ab"),))) == body + struct.pack("<I", crc32(body))


@given(INPUTS, st.data())
def test_a_container_that_is_cut_is_refused(fuzz_input: FuzzInput, data: st.DataObject) -> None:
    whole = to_bytes(fuzz_input)
    left = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ContainerError, match=r"^container: offset \d+: "):
        from_bytes(whole[:left])


@given(INPUTS, st.data())
def test_a_container_with_other_bytes_is_refused(
    fuzz_input: FuzzInput, data: st.DataObject
) -> None:
    whole = bytearray(to_bytes(fuzz_input))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ContainerError, match=r"^container: offset \d+: ") as caught:
        from_bytes(bytes(whole))
    assert 0 <= caught.value.offset <= len(whole)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=300).map(lambda rest: b"xenfuzz\0\1\0" + rest) | st.binary())
def test_any_bytes_are_a_container_or_an_error(data: bytes) -> None:
    with suppress(ContainerError):
        assert to_bytes(from_bytes(data)) == data


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", crc32(body))


HEAD = b"xenfuzz\0"
DAMAGED = {
    "empty": (b"", 0, "magic"),
    "another file": (b"\x7fELF" + bytes(60), 0, "magic"),
    "only the magic": (HEAD, 0, "the head has 12 bytes, 4 are left"),
    "version": (sealed(HEAD + struct.pack("<HH", 2, 0) + b"\1t"), 8, "version 2, and not 1"),
    "sections": (
        sealed(HEAD + struct.pack("<HH", 1, MAX_SECTIONS + 1) + b"\1t"),
        10,
        "65 sections, more than 64",
    ),
    "no name": (sealed(HEAD + struct.pack("<HH", 1, 0) + b"\0"), 12, "the name of the target is b"),
    "name": (sealed(HEAD + struct.pack("<HH", 1, 0) + b"\1\n"), 12, r"target is b'\n'"),
    "long name": (sealed(HEAD + struct.pack("<HH", 1, 0) + b"\5t"), 13, "has 5 bytes, 1 are left"),
    "long section": (
        sealed(HEAD + struct.pack("<HH", 1, 1) + b"\1t\1p\xff\xff\xff\xff"),
        20,
        "the section 'p' has 4294967295 bytes, 0 are left",
    ),
    "more": (sealed(HEAD + struct.pack("<HH", 1, 0) + b"\1t123"), 14, "3 bytes behind"),
    "checksum": (HEAD + struct.pack("<HH", 1, 0) + b"\1t" + bytes(4), 14, "CRC-32 00000000"),
    "twice": (
        sealed(HEAD + struct.pack("<HH", 1, 2) + b"\1t" + 2 * b"\1p\0\0\0\0"),
        26,
        "two sections of one name",
    ),
    "too long": (HEAD + bytes(MAX_BYTES), MAX_BYTES, f"more than {MAX_BYTES} bytes"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_is_told_with_file_and_offset(damage: str, tmp_path: Path) -> None:
    content, offset, problem = DAMAGED[damage]
    path = tmp_path / "crash.xenfuzz"
    path.write_bytes(content)
    with pytest.raises(ContainerError) as caught:
        read_file(path)
    assert str(caught.value).startswith(f"{path}: offset {offset}: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "fuzz_input",
    [
        FuzzInput("", ()),
        FuzzInput("t" * 256, ()),
        FuzzInput("t\n", ()),
        FuzzInput("ü", ()),
        FuzzInput("t", (("", b""),)),
        FuzzInput("t", tuple((f"s{i}", b"") for i in range(MAX_SECTIONS + 1))),
        FuzzInput("t", (("s", bytes(MAX_BYTES)),)),
    ],
    ids=["no name", "long name", "line end", "not ASCII", "section", "sections", "bytes"],
)
def test_what_no_container_takes_is_refused_when_it_is_written(
    fuzz_input: FuzzInput, tmp_path: Path
) -> None:
    with pytest.raises(ValueError):
        write_file(tmp_path / "a", fuzz_input)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.xenfuzz"
    write_file(path, ONE)
    assert read_file(path) == ONE
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)  # what cannot be replaced by a file
    with pytest.raises(OSError):
        write_file(folder, ONE)
    assert sorted(tmp_path.iterdir()) == [path, folder]


SECTIONS = (Section("tx page", 64), Section("start", 4), Section("grants", 32))


@given(st.binary(max_size=100))
def test_raw_bytes_become_an_input_and_the_same_bytes_again(raw: bytes) -> None:
    assert to_raw(SECTIONS, from_raw("tx", SECTIONS, raw)) == raw


@given(st.integers(0, 3), st.data())
def test_an_input_becomes_raw_bytes_and_the_same_input_again(
    there: int, data: st.DataObject
) -> None:
    sizes = [section.size for section in SECTIONS[:there]]
    contents = [data.draw(st.binary(min_size=size, max_size=size)) for size in sizes[:-1]]
    contents += [data.draw(st.binary(min_size=1, max_size=size)) for size in sizes[-1:]]
    names = [section.name for section in SECTIONS]
    fuzz_input = FuzzInput("tx", tuple(zip(names, contents, strict=False)))
    assert from_raw("tx", SECTIONS, to_raw(SECTIONS, fuzz_input)) == fuzz_input


def test_a_section_in_the_middle_that_is_not_there_is_zero() -> None:
    raw = to_raw(SECTIONS, FuzzInput("tx", (("grants", b"g"),)))
    assert raw == bytes(68) + b"g"


def test_more_bytes_than_a_target_takes_are_refused() -> None:
    with pytest.raises(RawError, match="an input of tx has up to 100 bytes, not 101"):
        from_raw("tx", SECTIONS, bytes(101))


def test_a_section_is_read_and_replaced_by_its_name() -> None:
    assert ONE.section("start") == b"\1\0\0\0"
    assert ONE.section("grants") == b""
    assert ONE.with_section("start", b"\2").section("start") == b"\2"
    assert ONE.with_section("grants", b"g").sections == (*ONE.sections, ("grants", b"g"))
    assert ONE.size == 201
