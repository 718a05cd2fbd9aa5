"""The pages of a process: runs, views, and pages of a device put in their place."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from xennet.abi.xen import PAGE_SIZE
from xennet.interface import OutOfFramesError
from xennet.xen.own_pages import OwnPages


@pytest.fixture
def pages() -> Iterator[OwnPages]:
    own = OwnPages(3, 16)
    yield own
    own.close()


@pytest.fixture
def device() -> Iterator[int]:
    """A file whose two pages stand for those of gntalloc."""
    fd = os.memfd_create("pages")
    os.ftruncate(fd, 2 * PAGE_SIZE)
    os.pwrite(fd, b"granted", PAGE_SIZE)
    yield fd
    os.close(fd)


def test_runs_are_zeroed_and_counted(pages: OwnPages) -> None:
    run = pages.alloc(3)
    run.u8[:] = bytes([7]) * len(run.u8)
    assert pages.used == 3
    pages.free(run)
    assert pages.used == 0
    assert not any(pages.alloc(16).u8)
    with pytest.raises(OutOfFramesError):
        pages.alloc(1)


def test_views_of_a_run_that_was_freed_end(pages: OwnPages) -> None:
    run = pages.alloc(1)
    pages.free(run)
    with pytest.raises(ValueError, match="released"):
        run.u32[0]
    with pytest.raises(ValueError, match="no run"):
        pages.free(run)


def test_a_page_of_a_device_takes_the_place_of_one(pages: OwnPages, device: int) -> None:
    run = pages.alloc(3)
    run.u8[:] = bytes([7]) * len(run.u8)
    middle = run.u8[PAGE_SIZE : 2 * PAGE_SIZE]
    pages.replace(run.first + 1, device, PAGE_SIZE)
    assert middle[:8] == b"granted\0"
    middle[:4] = b"seen"
    assert os.pread(device, 7, PAGE_SIZE) == b"seented"
    assert {run.u8[0], run.u8[PAGE_SIZE - 1], run.u8[2 * PAGE_SIZE]} == {7}
    pages.restore(run.first + 1)
    assert not any(middle)
    middle[:4] = b"mine"
    assert os.pread(device, 7, PAGE_SIZE) == b"seented"
    pages.restore(run.first + 1)  # there is nothing to restore
    assert middle[:4] == b"mine"


def test_a_run_that_is_freed_has_no_page_of_the_device_any_more(
    pages: OwnPages, device: int
) -> None:
    run = pages.alloc(1)
    pages.replace(run.first, device, PAGE_SIZE)
    pages.free(run)
    again = pages.alloc(1)
    assert again.first == run.first
    assert not any(again.u8)
    again.u8[:4] = b"mine"
    assert os.pread(device, 7, PAGE_SIZE) == b"granted"


def test_a_device_that_cannot_be_mapped_is_an_error_with_its_errno(pages: OwnPages) -> None:
    run = pages.alloc(1)
    read, write = os.pipe()
    try:
        with pytest.raises(OSError, match=r"E(ACCES|NODEV)") as caught:
            pages.replace(run.first, read, 0)
    finally:
        os.close(read)
        os.close(write)
    assert caught.value.errno is not None
