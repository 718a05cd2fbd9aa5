"""``xennet ring`` and ``xennet why``, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xennet.cli import main

DATA = Path(__file__).parents[1] / "data"
GOOD_RING = DATA / "rings" / "split" / "12-tx-vif-down-00.q0.tx.bin"
TORN_RING = DATA / "rings" / "08-tcp-from-guest-01.q0.tx.bin"

Captured = pytest.CaptureFixture[str]


def run(capsys: Captured, *args: str | Path) -> tuple[int, str, str]:
    code = main([str(arg) for arg in args])
    return code, *capsys.readouterr()


def test_the_exit_code_of_ring_says_whether_something_is_wrong(capsys: Captured) -> None:
    assert run(capsys, "ring", GOOD_RING)[0] == 0
    assert run(capsys, "ring", TORN_RING)[0] == 1
    assert run(capsys, "ring", TORN_RING, "--tx", "--start", 2254)[0] == 0


def test_a_page_is_one_ring(capsys: Captured) -> None:
    code, out, err = run(capsys, "ring", GOOD_RING, "--tx", "--rx")
    assert (code, out) == (2, "")
    assert err.startswith("xennet: A page is one ring, not --tx and --rx.")


@pytest.mark.parametrize("size", [0, 4095, 4097])
def test_a_file_that_is_no_page_is_named(capsys: Captured, tmp_path: Path, size: int) -> None:
    (page := tmp_path / "page").write_bytes(bytes(size))
    code, out, err = run(capsys, "ring", page, "--rx")
    assert (code, out) == (2, "")
    assert err.startswith(f"xennet: {page}: a ring page has 4096 bytes")


def test_a_file_that_is_not_there_is_named(capsys: Captured, tmp_path: Path) -> None:
    for command in (["ring"], ["why", "--store"]):
        code, out, err = run(capsys, *command, tmp_path / "none")
        assert (code, out) == (2, "")
        assert err == f"xennet: {tmp_path / 'none'}: No such file or directory\n"


def test_why_takes_the_vifs_that_are_named(capsys: Captured) -> None:
    dump = DATA / "stores" / "connected.txt"
    assert run(capsys, "why", "--store", dump, "vif1.0")[0] == 0
    code, out, err = run(capsys, "why", "--store", dump, "vif2.0")
    assert (code, out) == (2, "")
    assert err == f"xennet: {dump}: there is no vif 'vif2.0' in it (there is: vif1.0)\n"


def test_why_of_a_vif_that_does_not_pass_traffic_is_1_and_prints_the_reasons(
    capsys: Captured,
) -> None:
    code, out, _ = run(capsys, "why", "--json", "--store", DATA / "stores" / "guest-unbound.txt")
    assert code == 1
    (vif,) = json.loads(out)["vifs"]
    assert (vif["vif"], len(vif["reasons"])) == ("vif1.0", 3)


def test_a_dump_without_a_vif_says_so(capsys: Captured, tmp_path: Path) -> None:
    (dump := tmp_path / "dump").write_text('/tool = ""   (n0)\n')
    assert run(capsys, "why", "--store", dump) == (1, "there is no vif in it\n", "")


def test_a_hostile_value_cannot_control_the_terminal(capsys: Captured, tmp_path: Path) -> None:
    text = (DATA / "stores" / "connected.txt").read_text()
    node = "/local/domain/1/device/vif/0/backend"
    text = text.replace(f'{node} = "/local', f'{node} = "\\x1b[2J/local')
    (dump := tmp_path / "dump").write_text(text)
    code, out, _ = run(capsys, "why", "--store", dump)
    assert code == 1
    assert "\x1b" not in out
