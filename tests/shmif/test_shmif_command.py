"""``xennet shmif``: what it shows, what it says of bad buses, how it ends."""

from __future__ import annotations

import json
import lzma
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from full_disk import files_up_to
from shmif_samples import DATA, batch_of, bus_bytes, captured, made, without_padding

from xennet.abi.shmifvar import BUSMEM_SIZE
from xennet.cli import main
from xennet.shmif.shared_bus import Bus, Station

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """``xennet shmif COMMAND a.bus ...`` in this process: (exit code, stdout, stderr)."""

    def run(command: str, *args: str) -> tuple[int, str, str]:
        code = main(("shmif", command, str(tmp_path / "a.bus"), *args))
        return code, *capsys.readouterr()

    return run


def sample(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "a.bus"
    path.write_bytes(bus_bytes(name))
    return path


def packed(tmp_path: Path, name: str) -> str:
    path = tmp_path / "a.pcap"
    path.write_bytes(lzma.decompress((DATA / f"{name}.pcap.xz").read_bytes()))
    return str(path)


def test_a_new_bus_is_the_recorded_one_and_is_left_as_it_is(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.bus"
    assert run("create") == (0, "", "")
    assert path.read_bytes() == bus_bytes("00_fresh_v0")
    path.write_bytes(bus_bytes("02_one_frame"))
    assert run("create") == (0, "", "")
    assert path.read_bytes() == bus_bytes("02_one_frame")


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's fallocate")
@pytest.mark.parametrize("before", ["none", "empty", "sparse"])
def test_disk_has_room_for_all_of_a_bus_before_it_is_mapped(
    run: Run, tmp_path: Path, before: str
) -> None:
    """A store into a page without a block would be SIGBUS when the disk is full."""
    path = tmp_path / "a.bus"
    if before != "none":
        path.touch()
    if before == "sparse":  # as NetBSD's processes make one
        os.truncate(path, BUSMEM_SIZE)
    assert run("create") == (0, "", "")
    assert path.stat().st_blocks * 512 >= BUSMEM_SIZE


def test_disk_without_room_for_a_bus_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.bus"
    with files_up_to(BUSMEM_SIZE - 1):
        code, _, error = run("create")
    assert (code, error) == (2, f"xennet: {path}: cannot be used: File too large\n")
    assert path.stat().st_size == 0


def test_info_shows_the_head(run: Run, tmp_path: Path) -> None:
    run("create")
    assert run("info")[1].startswith("version     0 (nobody was woken yet)\ngeneration  0\n")
    sample(tmp_path, "05_full_plus_one")
    assert run("info") == (
        0,
        "version     3\ngeneration  1\nfirst       1562\nlast        0\nlock        free\n"
        "frames      683 of 1030674 bytes\n",
        "",
    )
    told = json.loads(run("info", "--json")[1])
    assert told.pop("bus") == str(tmp_path / "a.bus")
    assert told == {
        "format": "xennet-shmif/1",
        "version": 3,
        "generation": 1,
        "first": 1562,
        "last": 0,
        "lock": {"held": False, "process": None},
        "frames": 683,
        "bytes": 1030674,
    }


def test_info_says_who_holds_the_lock(run: Run, tmp_path: Path) -> None:
    bus = Bus(str(sample(tmp_path, "02_one_frame")))
    bus.memory.mem[3] = 1
    assert "lock        held by a process that leaves no mark\n" in run("info")[1]
    bus.memory.mem[3] = 0
    bus.lock.acquire(writing=False)
    if bus.lock.mark:
        assert f"lock        held by process {os.getpid()}\n" in run("info")[1]
    bus.lock.release()


@pytest.mark.parametrize("name", ["02_one_frame", "05_full_plus_one", "09_wrapped_many"])
def test_dump_shows_and_keeps_the_frames(run: Run, tmp_path: Path, name: str) -> None:
    sample(tmp_path, name)
    code, out, err = run("dump", "--pcap", str(tmp_path / "out.pcap"))
    assert (code, err) == (0, "")
    frames = captured(name)
    assert out.splitlines() == [
        f"{frame.time // 10**6}.{frame.time % 10**6:06} 1122334455667788 "
        f"02:00:00:00:77:88 > ff:ff:ff:ff:ff:ff, type 0x88b5, {len(frame.data)} bytes"
        for frame in frames
    ]
    from xennet.port.pcap import PcapPort

    batch = batch_of(frames)
    batch.clear()
    port = PcapPort(str(tmp_path / "out.pcap"))
    assert port.pull(batch) == len(frames)
    assert [bytes(frame) for frame in batch] == [frame.data for frame in frames]
    assert [batch.timestamp[i] // 1000 for i in range(batch.count)] == [f.time for f in frames]
    port.close()


def test_inject_sends_a_capture(run: Run, tmp_path: Path) -> None:
    run("create")
    told = run("inject", packed(tmp_path, "02_one_frame"), "--sender", "1122334455667788")
    assert told == (0, "1 frames sent\n", "")
    written = (tmp_path / "a.bus").read_bytes()
    assert without_padding(written) == without_padding(bus_bytes("02_one_frame"))
    assert run("inject", "x.pcap")[0] == 2
    code, _, err = run("inject", packed(tmp_path, "02_one_frame"), "--sender", "xyz")
    assert (code, err.splitlines()[0]) == (
        2,
        "xennet: A sender is up to 16 hexadecimal digits, not 'xyz'.",
    )


def test_inject_says_what_it_could_not_send(run: Run, tmp_path: Path) -> None:
    from xennet.port.record import RecordPort

    path = str(tmp_path / "long.pcap")
    port = RecordPort(path)
    port.push(batch_of([made(0, 60), made(1, 1515), made(2, 1514)]))
    port.close()
    run("create")
    code, out, err = run("inject", path)
    assert (code, out) == (1, "2 frames sent\n")
    assert err == f"xennet: {path}: 1 frames have more than 1514 bytes\n"
    assert len(run("dump")[1].splitlines()) == 2


def test_inject_does_what_frames_still_wait_for(run: Run, tmp_path: Path) -> None:
    from xennet.port import open_port
    from xennet.testing.sample_frames import Frame, completed, drain, new_batch

    frames = drain(open_port("tcp:1514x2")) + drain(open_port("tcp6:4000x1"))
    for name in ("said.pcapng", "silent.pcap"):
        with closing(open_port(f"record:{tmp_path / name}")) as port:
            port.push(new_batch([*frames, Frame(bytes(60), flags=1)]))
    run("create")
    code, out, err = run("inject", f"{tmp_path}/said.pcapng")
    assert (code, out) == (1, "5 frames sent\n")
    assert err == f"xennet: {tmp_path}/said.pcapng: 1 frames are not what their flags say\n"
    assert run("dump", "--pcap", f"{tmp_path}/out.pcap")[0] == 0
    with closing(open_port(f"pcap:{tmp_path}/out.pcap")) as port:
        out_frames = drain(port)
    assert [frame.data for frame in out_frames[:2]] == [completed(one).data for one in frames[:2]]
    assert max(len(frame.data) for frame in out_frames) == 1514
    # Nothing in a pcap file says what is blank, and that long frames are to be segmented.
    code, out, err = run("inject", f"{tmp_path}/silent.pcap")
    assert (code, out) == (1, "3 frames sent\n")
    assert err.splitlines() == [
        f"xennet: {tmp_path}/silent.pcap: 1 frames have more than 1514 bytes",
        f"xennet: {tmp_path}/silent.pcap: 2 frames were sent with a wrong TCP or UDP checksum",
    ]
    _, out, err = run("inject", f"{tmp_path}/silent.pcap?csum=fix")
    assert (out, len(err.splitlines())) == ("3 frames sent\n", 1)


@pytest.mark.parametrize("command", ["info", "dump", "inject", "follow", "unlock"])
def test_a_bad_bus_is_one_line_and_exit_code_2(run: Run, tmp_path: Path, command: str) -> None:
    path, more = tmp_path / "a.bus", [packed(tmp_path, "02_one_frame")] * (command == "inject")
    missing = run(command, *more)
    assert missing == (2, "", f"xennet: {path}: cannot be opened: No such file or directory\n")
    path.write_bytes(b"short")
    assert run(command, *more) == (2, "", f"xennet: {path}: no bus, it has 5 bytes, not 1048576\n")
    path.write_bytes(bytes(1 << 20))
    code, _, err = run(command, *more)
    assert (code, err.count("\n")) == (2, 1)
    assert err.endswith("(at byte offset 0)\n")


@pytest.mark.parametrize("command", ["info", "dump", "inject", "follow"])
@pytest.mark.parametrize(("offset", "value"), [(16, 1 << 31), (20, 1048544), (56, 1 << 31)])
def test_a_damaged_bus_is_one_line_with_its_place(
    run: Run, tmp_path: Path, command: str, offset: int, value: int
) -> None:
    path = sample(tmp_path, "02_one_frame")
    content = bytearray(path.read_bytes())
    content[offset : offset + 4] = value.to_bytes(4, "little")
    path.write_bytes(content)
    more = [packed(tmp_path, "02_one_frame")] * (command == "inject")
    code, _, err = run(command, *more)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"xennet: {path}: ")
    assert err.endswith(f"(at byte offset {offset})\n")


def test_a_bus_that_is_locked_for_ever_can_be_looked_at_and_unlocked(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xennet.cli.shmif._PATIENCE", 0.05)
    bus = Bus(str(sample(tmp_path, "02_one_frame")))
    bus.memory.mem[3] = 1
    code, out, err = run("dump")
    assert (code, len(out.splitlines())) == (0, 1)
    assert err.endswith("xennet shmif unlock --dead; it is read without its lock\n")
    code, out, err = run("unlock")
    assert (code, out) == (2, "")
    assert "by a process that leaves no mark" in err
    code, out, err = run("unlock", "--dead")
    assert (code, out) == (
        0,
        f"{tmp_path / 'a.bus'}: the lock was taken from a process declared dead\n",
    )
    assert "declared dead while it held the lock" in err
    assert run("unlock")[:2] == (0, f"{tmp_path / 'a.bus'}: the lock is free\n")


def test_follow_shows_frames_as_they_come_and_ends_with_a_signal(tmp_path: Path) -> None:
    path = str(sample(tmp_path, "02_one_frame"))
    words = [sys.executable, "-m", "xennet", "shmif", "follow", path]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        assert one.stderr is not None
        assert one.stdout.readline().startswith("1000.000000 1122334455667788 02:00:00:00:77:88 > ")
        bus = Bus(path)
        for index in range(3):
            bus.send(batch_of([made(index, 60 + index)]), Station(0xABC, bytes(6)).card())
            assert one.stdout.readline() == (
                f"1000.00000{index} 0000000000000abc 02:00:00:00:77:88 > ff:ff:ff:ff:ff:ff, "
                f"type 0x88b5, {60 + index} bytes\n"
            )
        one.send_signal(signal.SIGINT)
        assert one.wait(60) == 130
        assert one.stderr.read() == "xennet: interrupted\n"
    assert bus.memory.mem[3] == 0


def test_follow_ends_after_so_many_frames(run: Run, tmp_path: Path) -> None:
    sample(tmp_path, "09_wrapped_many")
    code, out, _ = run("follow", "-n", "3", "--all", "--pcap", str(tmp_path / "out.pcap"))
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        "1018.000667",
        "1018.000668",
        "1018.000669",
    ]
    assert (tmp_path / "out.pcap").stat().st_size > 24 + 712 + 1225


def test_a_bus_of_i386(run: Run, tmp_path: Path) -> None:
    run("create")
    assert run("inject", packed(tmp_path, "02_one_frame"), "--form", "i386")[0] == 0
    assert "last        20\n" in run("info", "--form", "i386")[1]
    assert "60 bytes" in run("dump", "--form", "i386")[1]


@pytest.mark.parametrize("name", ["a.bus", "symbolic", "hard"])
@pytest.mark.parametrize("command", [["dump"], ["follow", "--all", "-n", "5"]])
def test_a_bus_is_not_overwritten_by_its_capture(
    run: Run, tmp_path: Path, command: list[str], name: str
) -> None:
    path = sample(tmp_path, "02_one_frame")
    (tmp_path / "symbolic").symlink_to(path)
    (tmp_path / "hard").hardlink_to(path)
    target = tmp_path / name
    code, out, err = run(*command, "--pcap", str(target))
    assert (code, out) == (2, "")
    assert err == f"xennet: {target}: cannot be recorded to, the run reads it as {path}\n"
    assert path.read_bytes() == bus_bytes("02_one_frame")


@pytest.mark.parametrize("command", ["create", "info", "dump", "follow", "unlock"])
def test_a_bus_is_a_regular_file(run: Run, tmp_path: Path, command: str) -> None:
    path = tmp_path / "a.bus"
    os.mkfifo(path)
    assert run(command) == (2, "", f"xennet: {path}: no bus, it is no regular file\n")
