"""``xennet netmap gen``, ``sink``, ``bridge``, ``list`` and ``info``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import xennet.netmap
from xennet.cli import main
from xennet.netmap.device import Device
from xennet.netmap.user.pkt_gen import Bridge, Generator, Sink, take_turns

Capture = pytest.CaptureFixture[str]


def said(capsys: Capture, command: str, code: int = 0) -> list[str]:
    assert main(["netmap", *command.split()]) == code
    shown = capsys.readouterr()
    text = re.sub(r" in [0-9.]+ s \([0-9,]+ frames/s\)", "", shown.out)
    return [*text.splitlines(), *shown.err.splitlines()]


def test_a_generator_and_two_sinks(capsys: Capture) -> None:
    command = "gen vale0:1 --count 3000 --size 100 -- sink vale0:2 -- sink netmap:vale0:3 -- list"
    assert said(capsys, command) == [
        "switch 0  port   0  vale0:1",
        "switch 0  port   1  vale0:2",
        "switch 0  port   2  vale0:3",
        "gen netmap:vale0:1: 3,000 frames sent",
        "sink netmap:vale0:2: 3,000 frames, 300,000 bytes",
        "sink netmap:vale0:3: 3,000 frames, 300,000 bytes",
    ]


def test_a_bridge_copies_between_regions(capsys: Capture) -> None:
    assert said(capsys, "sink vale0:b -- bridge cable}1 vale0:a -- gen cable{1 --count 3000") == [
        "sink netmap:vale0:b: 3,000 frames, 180,000 bytes",
        "bridge netmap:cable}1 vale0:a: 3,000 there, 0 back, copied",
        "gen netmap:cable{1: 3,000 frames sent",
    ]


def test_a_bridge_swaps_buffers_in_one_region(capsys: Capture) -> None:
    command = "gen a{1 --count 3000 -- bridge a}1 a{2 -- sink a}2 -- gen a}2 --count 100"
    # The generator on the last end shares its rings with the sink, and sends the other way.
    assert said(capsys, command) == [
        "gen netmap:a{1: 3,000 frames sent",
        "bridge netmap:a}1 netmap:a{2: 3,000 there, 100 back, buffers swapped",
        "sink netmap:a}2: 3,000 frames, 180,000 bytes",
        "gen netmap:a}2: 100 frames sent",
    ]


def test_a_pair_of_interfaces(capsys: Capture) -> None:
    assert said(capsys, "veth em0 em1 -- gen em0 --count 3000 -- sink em1") == [
        "gen netmap:em0: 3,000 frames sent",
        "sink netmap:em1: 3,000 frames, 180,000 bytes",
    ]
    shown = said(capsys, "info em0* -- veth em0 em1")
    assert shown[2] == "tx rings  1 of 1024 slots, 1 host"
    assert [line.split()[0] for line in shown[-4:]] == ["tx0", "tx1", "rx0", "rx1"]


def test_the_ends_of_a_vif(capsys: Capture) -> None:
    there_and_back = "gen xn0 --count 5000 -- sink vif1.0 -- gen vif1.0 --count 300 -- sink xn0"
    assert said(capsys, f"{there_and_back} -- vif xn0 vif1.0") == [
        "gen netmap:xn0: 5,000 frames sent",
        "sink netmap:vif1.0: 5,000 frames, 300,000 bytes",
        "gen netmap:vif1.0: 300 frames sent",
        "sink netmap:xn0: 300 frames, 18,000 bytes",
    ]
    two = "vif xn0 vif1.0 -- vif xn1 vif2.0 -- gen xn0 --count 2000 -- bridge vif1.0 vif2.0"
    assert said(capsys, f"{two} -- sink xn1") == [
        "gen netmap:xn0: 2,000 frames sent",
        "bridge netmap:vif1.0 netmap:vif2.0: 2,000 there, 0 back, buffers swapped",
        "sink netmap:xn1: 2,000 frames, 120,000 bytes",
    ]


def test_a_vif_has_a_ring_pair_for_each_queue(capsys: Capture) -> None:
    traffic = "gen xn0-2 --count 700 -- sink vif1.0"
    shown = said(capsys, f"vif xn0 vif1.0 --queues 3 -- info xn0 -- {traffic}")
    assert shown[2:4] == [
        "tx rings  3 of 256 slots, 1 host",
        "rx rings  3 of 256 slots, 1 host",
    ]
    assert shown[-2:] == [
        "gen netmap:xn0-2: 700 frames sent",
        "sink netmap:vif1.0: 700 frames, 42,000 bytes",
    ]
    shown = said(capsys, "vif xn0 vif1.0 --queues 3 --admode 2 -- info xn0")
    assert shown[2] == "tx rings  1 of 1024 slots, 1 host"


def test_nobody_reads(capsys: Capture) -> None:
    why = "gen netmap:x{1: 1,023 frames sent, the rest found no room: nobody reads"
    assert said(capsys, "gen x{1 --count 2000") == [why]
    assert said(capsys, "gen vale0:1 --count 2000") == ["gen netmap:vale0:1: 2,000 frames sent"]


def test_what_a_port_got(capsys: Capture) -> None:
    assert said(capsys, "info vale0:1-1/x@conf:rings=2,slots=64") == [
        "name      vale0:1",
        "mode      4, flags 0x800",
        "tx rings  2 of 64 slots, 0 host",
        "rx rings  2 of 64 slots, 0 host",
        "memory    2, 8,855,552 bytes",
        "if        12 of 1,024 bytes",
        "ring      22 of 20,480 bytes",
        "buf       4,098 of 2,048 bytes",
        "tx1       63 of 64 slots, buffer 66 first",
        "rx1       0 of 64 slots, buffer 2 first",
    ]


def test_the_longest_names_of_a_switch_and_its_port(capsys: Capture) -> None:
    longest = "vale" + "a" * 11 + ":" + "b" * 15
    assert said(capsys, f"list -- sink {longest}")[0] == f"switch 0  port   0  {longest}"


def test_a_device_of_its_own_has_no_port(capsys: Capture) -> None:
    assert said(capsys, "list") == [
        "no port is on a switch: the device is this command's own, name others behind --"
    ]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sink xn0", "netmap:xn0: ENXIO: xn0: No such device or address"),
        ("info x@", "EINVAL: invalid empty mem_id"),
        ("bridge vale0:a xn0", "ENXIO: xn0: No such device or address"),
        ("gen vale0:a --size 2049", "EINVAL: 2049 bytes do not fit a buffer of 2048 bytes"),
        ("gen vale0:a --size 65535", "EINVAL: 65535 bytes do not fit a buffer of 2048 bytes"),
        ("gen vale0:a --size 65536", "65536 is not in the range 18<=x<=65535."),
        ("gen vale0:a --size 17", "17 is not in the range 18<=x<=65535."),
        ("gen vale0:a -- snk vale0:b", "No such command 'snk' behind --. Did you mean 'sink'?"),
        ("sink vale0:" + "a" * 16, "ENOMEM"),
        ("sink vale" + "a" * 12 + ":a", "ENOMEM"),
        ("sink vale0:" + "a" * 58, "too long"),
        ("veth em0 em0", "veth: 'em0' is too long for an interface, or there is one"),
        ("veth em0 abcdefghijklmnop", "'abcdefghijklmnop' is too long"),
        ("vif xn0 vif1.0 --admode 1 -- sink vif1.0", "ENOTSUP: vif1.0: Operation not supported"),
        ("vif xn0 vif1.0 --queues 9", "9 is not in the range 1<=x<=8."),
        ("vif xn0 xn0", "EEXIST: there is an interface xn0"),
        ("vif xn0 abcdefghijklmnop", "EINVAL: 'abcdefghijklmnop' cannot be the name"),
        ("gen vale0:a -- replay x", "No such command 'replay' behind --."),
        ("gen vale0:a -- sink vale0:b sink", "Too much behind sink; -- has to be between two"),
        ("gen vale0:a -- sink", "Missing argument 'PORT'"),
        ("gen vale0:a -- --", "A command is missing beside --."),
        ("gen vale0:a -- sink vale0:b --", "A command is missing beside --."),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(capsys: Capture, command: str, says: str) -> None:
    lines = said(capsys, command, 2)
    assert says in lines[0]
    assert len(lines) <= 2


def test_a_frame_of_a_generator_fits_a_buffer(capsys: Capture) -> None:
    assert said(capsys, "gen vale0:a --size 2048 --count 2 -- sink vale0:b") == [
        "gen netmap:vale0:a: 2 frames sent",
        "sink netmap:vale0:b: 2 frames, 4,096 bytes",
    ]


def test_buffers_of_a_file_may_be_longer(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "memory"
    file.write_bytes(bytes(32 << 20))
    options = f"@extmem:file={file},buf-size=4096,buf-num=4098"
    assert said(capsys, f"gen vale0:a{options} --size 4000 --count 2") == [
        "gen netmap:vale0:a" + options + ": 2 frames sent",
    ]


def test_programs_close_their_ports() -> None:
    device = Device()
    programs = Generator("vale0:a", 60, 10, device), Sink("vale0:b", device)
    bridge = Bridge("vale0:c", "netmap:d{1", device)
    take_turns([*programs, bridge])
    assert bridge.moved == [10, 0]
    for program in (*programs, bridge):
        program.close()
    with pytest.raises(xennet.netmap.NetmapError):
        Bridge("vale0:c", "netmap:e", device)
    assert list(device.state.regions.by_id) == [1]
