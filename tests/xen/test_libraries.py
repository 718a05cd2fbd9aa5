"""What is missing for a real Xen is told by name."""

from __future__ import annotations

import pytest

from xennet.cli import main
from xennet.xen import libraries
from xennet.xen.errors import XenError


def test_a_library_that_is_missing_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(libraries._CALLS, "libxennowhere.so.1", {})
    monkeypatch.setitem(libraries._PACKAGES, "libxennowhere.so.1", "libxennowhere1")
    with pytest.raises(XenError, match=r"libxennowhere\.so\.1: .*in Debian libxennowhere1"):
        libraries.library("libxennowhere.so.1")


def test_a_library_without_a_call_is_told_with_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"xen_of_tomorrow": (None, ())}
    monkeypatch.setitem(libraries._CALLS, "libc.so.6", calls)
    monkeypatch.setitem(libraries._PACKAGES, "libc.so.6", "libc6")
    with pytest.raises(XenError, match="xen_of_tomorrow"):
        libraries.library("libc.so.6")


@pytest.mark.parametrize("words", [("back", "--host", "null:"), ("front", "--guest", "null:")])
def test_without_a_store_there_is_one_line(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENSTORED_PATH", "/nowhere/socket")
    assert main(words) == 2
    assert capsys.readouterr().err == (
        "xennet: XenStore: ENOENT '/nowhere/socket': cannot connect to XenStore; "
        "a XenStore is xenstored's socket in domain 0, /dev/xen/xenbus in other domains\n"
    )


@pytest.mark.parametrize("text", ["1", "1/0/0", "a/0", "1:0", "-1/0"])
def test_a_vif_is_named_by_two_numbers(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("back", "--host", "null:", f"--vif={text}")) == 2
    assert f"{text!r}: wants DOMID/HANDLE" in capsys.readouterr().err
