"""Test vectors: well-formed, agreed upon by an independent model, and of use to a C program."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from tx_model import Expected, expect

from xennet.check.rule_book import rule_book
from xennet.check.vectors import tx_vectors
from xennet.check.vectors.tx_vectors import Case
from xennet.check.vectors.vector import Result, Vector
from xennet.check.vectors.vector_pages import FIRST_GREF, payload
from xennet.check.vectors.write import document, schema, write_vectors
from xennet.cli import main

HERE = Path(__file__).parent
GROUPS = ("layout", "notify", "overflow", "netback_tx", "netfront_rx")
CASES = tx_vectors.cases()
#: The model finds checksum fields behind IPv4 headers only, and behind VLAN tags too, which Linux
#: does not; it sums what the IP header says, Linux what there is.
NOT_MODELLED = ("tcpv6", "tcp6", "blank-vlan", "csum-not-blank")
MODELLED = [case for case in CASES if not any(part in case.name for part in NOT_MODELLED)]
PAGES = payload()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    assert write_vectors(folder) >= 150
    return folder


def test_the_document_is_as_its_schema_says(folder: Path) -> None:
    validate = fastjsonschema.compile(json.loads((folder / "schema.json").read_text()))
    validate(json.loads((folder / "vectors.json").read_text()))


@pytest.mark.parametrize("group", ["netback_tx", "netfront_rx"])
def test_the_schema_refuses_a_vector_without_a_key(group: str) -> None:
    validate = fastjsonschema.compile(json.loads(schema()))
    listed = document()[0]
    for key in list(listed[group][0]):
        broken = {**listed, group: [{k: v for k, v in listed[group][0].items() if k != key}]}
        with pytest.raises(fastjsonschema.JsonSchemaException):
            validate(broken)


def test_each_vector_has_a_name_of_its_own_and_a_rule_of_the_suite(folder: Path) -> None:
    listed = json.loads((folder / "vectors.json").read_text())
    for group in GROUPS:
        names = [vector["name"] for vector in listed[group]]
        assert len(names) == len(set(names))
        assert {vector["rule"] for vector in listed[group]} <= set(rule_book())


def test_each_page_is_there(folder: Path) -> None:
    listed = json.loads((folder / "vectors.json").read_text())
    for group in ("netback_tx", "netfront_rx"):
        for vector in listed[group]:
            assert (folder / vector["page"]).stat().st_size == 4096


def test_writing_twice_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_vectors(tmp_path)
    for path in folder.rglob("*.*"):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_what_cannot_be_written_whole_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_vectors(tmp_path)
    (tmp_path / "vectors.json").write_text("older")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "vectors.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"vectors\.json"):
        write_vectors(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def piece(case: Case, gref: int, offset: int, size: int) -> bytes | None:
    """What a slot holds; None if its reference grants nothing."""
    if not size:
        return b""
    usual = (gref - FIRST_GREF, False) if FIRST_GREF <= gref < FIRST_GREF + 64 else None
    granted = case.grants.get(gref, usual)
    if granted is None:
        return None
    return PAGES[granted[0] * 4096 + offset : granted[0] * 4096 + offset + size]


def model(case: Case) -> Expected:
    claimed = len(case.slots) if case.claimed is None else case.claimed
    return expect([raw.ljust(12, b"\0") for raw in case.slots], claimed)


@pytest.fixture(scope="module")
def vectors() -> dict[str, Vector]:
    """Those of guest transmit by their names, which are those of their cases."""
    return {vector.name: vector for vector in tx_vectors.vectors()}


@pytest.mark.parametrize("case", MODELLED, ids=lambda case: case.name)
def test_a_model_that_shares_nothing_with_the_backend_says_the_same(
    case: Case, vectors: dict[str, Vector]
) -> None:
    wanted, vector = model(case), vectors[case.name]
    assert (vector.results[0] is Result.GIVEN_UP) == bool(wanted.rule)
    statuses = dict(enumerate(wanted.statuses))
    delivered = []
    for packet in wanted.packets:
        pieces = [piece(case, *one) for one in packet.pieces]
        for at, place in zip(packet.slots, pieces, strict=True):
            if place is None:
                statuses[at] = (statuses[at][0], -1)
        if None not in pieces and (got := packet.delivered(b"".join(filter(None, pieces)))):
            delivered.append((*got, *packet.gso))
    assert [(one.id, one.status) for one in vector.responses] == list(statuses.values())
    assert vector.consumed == len(statuses)
    assert [
        (one.data, one.flags, one.gso_size, one.gso_type) for one in vector.packets
    ] == delivered


def test_a_packet_is_described_by_its_length_and_checksum(folder: Path) -> None:
    listed = json.loads((folder / "vectors.json").read_text())["netback_tx"]
    first: dict[str, Any] = next(vector for vector in listed if vector["name"] == "one-slot-60")
    assert first["packets"][0]["crc32"] == zlib.crc32(PAGES[:60])


@pytest.fixture(scope="module")
def can_compile() -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    for header, package in (("jansson.h", "libjansson-dev"), ("xen/io/netif.h", "libxen-dev")):
        probe = f"#if !__has_include(<{header}>)\n#error none\n#endif\n".encode()
        command = ["gcc", "-fsyntax-only", "-x", "c", "-"]
        if subprocess.run(command, input=probe, capture_output=True, check=False).returncode:
            pytest.skip(f"{package} is not installed")


def judged(folder: Path, build: Path, *options: str) -> tuple[int, list[str]]:
    """Exit code and output of the C program that judges a C backend."""
    sources = [str(HERE / name) for name in ("judge.c", "netback_core.c")]
    subprocess.run(
        ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", *options, *sources, "-ljansson", "-o", build],
        check=True,
    )
    done = subprocess.run([build, folder], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


@pytest.mark.usefixtures("can_compile")
def test_a_c_program_finds_nothing_in_a_backend_from_the_public_headers(
    folder: Path, tmp_path: Path
) -> None:
    assert judged(folder, tmp_path / "judge") == (0, [f"{len(CASES)} vectors, 0 differ"])


@pytest.mark.usefixtures("can_compile")
@pytest.mark.parametrize(
    ("bug", "rule"),
    [("BUG_14", "netif.tx.layout"), ("BUG_17", "netif.tx.total-size")],
    ids=["another byte order", "more_data is lost at the third slot"],
)
def test_a_c_program_finds_a_fault_that_was_shipped(
    folder: Path, tmp_path: Path, bug: str, rule: str
) -> None:
    code, lines = judged(folder, tmp_path / "judge", f"-D{bug}")
    assert code == 1
    assert any(line.endswith(f"({rule})") for line in lines)


def test_the_c_program_is_short() -> None:
    assert len((HERE / "judge.c").read_text().splitlines()) < 150


def test_the_command_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "vectors", "-o", str(tmp_path / "new" / "folder")]) == 0
    assert (tmp_path / "new" / "folder" / "vectors.json").exists()
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'new' / 'folder'}\n")


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["check", "vectors", "-o", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
