"""``pcap:-`` and ``record:-``: standard input and output, for pipelines."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from port_helpers import frame, new_batch, pcap_header, pcap_record

from xennet.port import PortError, open_ports

CAPTURE = pcap_header() + b"".join(pcap_record(frame(i), i + 1) for i in range(5))


def xennet(args: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "xennet", "run", *args.split()]
    return subprocess.run(command, timeout=120, check=False, **options)  # type: ignore[call-overload]


def test_a_capture_goes_in_and_out_through_pipes_and_the_report_to_stderr() -> None:
    done = xennet(
        "--guest pcap:- --host record:-",
        input=gzip.compress(CAPTURE),
        capture_output=True,
    )
    assert done.returncode == 0
    assert done.stdout[24:] == CAPTURE[24:]
    assert b"GOOD" in done.stderr
    assert b"standard input" not in done.stderr


def test_json_goes_to_stderr_when_stdout_is_the_recording() -> None:
    done = xennet("--json --guest gen:60x3+record:- --host gen:60x2", capture_output=True)
    report = json.loads(done.stderr)
    assert (done.returncode, report["verdict"]["good"]) == (0, True)
    assert len(done.stdout) == 24 + 2 * 76


def test_a_reader_that_goes_away_is_an_error_of_one_line() -> None:
    read, write = os.pipe()
    os.close(read)
    done = xennet(
        "--quiet --guest gen:60x3 --host record:-",
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert done.returncode == 2
    assert done.stderr == (
        b"xennet: standard output: cannot be written after 0 frames: Broken pipe\n"
    )


@pytest.mark.parametrize(
    ("redirected", "args"),
    [
        ("<&-", "--guest pcap:- --host null:"),
        (">&-", "--guest gen:60x3 --host record:-"),
    ],
)
def test_a_closed_stream_is_no_file_that_was_opened_since(redirected: str, args: str) -> None:
    command = f"exec {sys.executable} -m xennet run {args} {redirected}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot be opened: Bad file descriptor" in done.stderr


def test_a_capture_is_not_written_to_a_terminal() -> None:
    ours, theirs = pty.openpty()
    try:
        done = xennet("--guest gen:60x3 --host record:-", stdout=theirs, stderr=subprocess.PIPE)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 2
    assert b"standard output: a capture is not written to a terminal" in done.stderr


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["pcap:-", "pcap:-"], "standard input: can be played by one port only"),
        (["record:-", "null:", "gen:60x3+record:-"], "standard output: can be recorded to by one"),
    ],
)
def test_a_standard_stream_has_one_port(specs: list[str], message: str) -> None:
    with pytest.raises(PortError, match=message):
        open_ports(specs)


def test_standard_output_that_is_a_file_of_the_run_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(CAPTURE)
    with path.open("ab") as file:
        done = xennet(
            f"--guest pcap:{path} --host record:-",
            stdout=file,
            stderr=subprocess.PIPE,
        )
    assert done.returncode == 2
    assert b"standard output: cannot be recorded to, the run reads it as" in done.stderr
    assert path.read_bytes() == CAPTURE


def test_a_file_whose_name_is_a_dash_has_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_bytes(CAPTURE)
    (port,) = open_ports(["pcap:./-"])
    assert port.pull(new_batch()) == 5
    port.close()
