"""Files written in units: what a disk that gets full, or a signal, leaves of them."""

from __future__ import annotations

import errno
import os
from io import FileIO
from pathlib import Path

import pytest
from full_disk import files_up_to

from xennet.unit_file import UnitFile


def test_units_are_in_the_file_when_it_is_flushed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = UnitFile(FileIO(path, "w"))
    assert file.write(b"one", 1) == 3
    file.write(b"two", 2)
    assert (path.read_bytes(), file.kept) == (b"", 0)
    file.flush()
    assert (path.read_bytes(), file.kept) == (b"onetwo", 2)
    file.close()
    file.close()


def test_many_units_do_not_wait_for_a_flush(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = UnitFile(FileIO(path, "w"))
    for _ in range(20):
        file.write(b"x" * (1 << 17))
    assert path.stat().st_size == 2 << 20
    file.close()
    assert path.stat().st_size == 20 << 17


@pytest.mark.parametrize("size", range(13))
def test_full_disk_leaves_whole_units_and_takes_none_behind_a_gap(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "file"
    file = UnitFile(FileIO(path, "w"))
    for number in range(1, 5):
        file.write(b"abc", number)
    with files_up_to(size):
        if size < 12:
            with pytest.raises(OSError) as caught:
                file.flush()
            assert caught.value.errno == errno.EFBIG
        else:
            file.flush()
    assert (path.read_bytes(), file.kept) == (b"abc" * (size // 3), size // 3)
    if size < 12:
        file.write(b"later", 6)
    file.close()
    assert path.read_bytes() == b"abc" * (size // 3)


def test_what_a_file_had_before_is_kept_when_units_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    file = UnitFile(FileIO(path, "a"))
    file.write(b"abc", 1)
    file.write(b"abc", 2)
    with files_up_to(10), pytest.raises(OSError):
        file.close()
    assert (path.read_bytes(), file.closed) == (b"beforeabc", True)


def test_bytes_of_others_behind_a_unit_are_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = UnitFile(FileIO(path, "w"))
    os.truncate(path, 100)
    file.write(b"abc" * 9, 1)
    with files_up_to(20), pytest.raises(OSError):
        file.flush()
    assert path.stat().st_size == 100
    file.close()


def test_units_behind_what_others_have_appended_are_cut_where_they_begin(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = UnitFile(FileIO(path, "a"))
    file.write(b"abc", 1)
    with path.open("ab") as other:
        other.write(b"others")
    file.write(b"abc", 2)
    with files_up_to(10), pytest.raises(OSError):
        file.close()
    assert (path.read_bytes(), file.kept) == (b"othersabc", 1)


class Interrupted(FileIO):
    """A signal's handler raises when a part of a write is done."""

    def write(self, data: object) -> int:
        FileIO.write(self, bytes(data)[:4])  # type: ignore[call-overload]
        raise KeyboardInterrupt


def test_interrupted_write_goes_on_behind_the_last_whole_unit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    raw = Interrupted(path, "w")
    file = UnitFile(raw)
    for number in (1, 2, 3):
        file.write(b"ab%d" % number, number)
    with pytest.raises(KeyboardInterrupt):
        file.flush()
    assert (path.read_bytes(), file.kept) == (b"ab1", 1)
    with pytest.raises(KeyboardInterrupt):
        file.flush()
    assert (path.read_bytes(), file.kept) == (b"ab1ab2", 2)
    raw.close()


def test_pipe_that_takes_nothing_now_is_told_and_units_are_dropped() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    file = UnitFile(FileIO(writer, "w"))
    file.write(b"x" * 1_000_000, 1)
    with pytest.raises(BlockingIOError):
        file.flush()
    file.close()
    os.close(reader)
