"""Port specifications, joined ports, and which files a run may overwrite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from port_helpers import drain, frame, new_batch, opened, pcap_header, pcap_record, play

from xennet.port import Port, PortError, open_port, open_ports
from xennet.port.spec import SCHEMES, parse


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap_header() + pcap_record(frame(1), 1) + pcap_record(frame(2), 2))
    return path


def arguments(spec: str) -> list[str]:
    return [part.argument for part in parse(spec)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("pcap:in.pcap", ["in.pcap"]),
        ("pcap:c:/a:b.pcap", ["c:/a:b.pcap"]),
        ("pcap:a+b.pcap", ["a+b.pcap"]),
        ("pcap:a+b:c.pcap", ["a+b:c.pcap"]),
        ("pcap:c++", ["c++"]),
        ("pcap:a+record", ["a+record"]),
        ("pcap:a++record:b", ["a+", "b"]),
        ("pcap:a+x+record:b+y", ["a+x", "b+y"]),
        ("pcap:a?csum=fix+record:b?csum=fix", ["a?csum=fix", "b?csum=fix"]),
        ("record:b+pcap:a", ["a", "b"]),
        ("gen:60x5+null:", ["60x5", ""]),
    ],
)
def test_a_plus_joins_only_before_a_known_scheme(spec: str, expected: list[str]) -> None:
    assert arguments(spec) == expected


@given(name=st.text(min_size=1).filter(lambda name: "\0" not in name))
def test_any_name_without_a_joint_is_kept_as_it_is(name: str) -> None:
    if any(f"+{scheme}:" in name for scheme in SCHEMES):
        return
    assert arguments(f"pcap:{name}") == [name]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "",
            r"port '': unknown, known are pcap:FILE\[\?csum=fix\], gen:SIZExCOUNT, record:FILE, "
            "null:, echo:",
        ),
        ("in.pcap", "port 'in.pcap': unknown"),
        ("null", "port 'null': unknown"),
        ("veth:x", "port 'veth:x': unknown"),
        ("pcap:", "port 'pcap:': no file name, wants pcap:FILE"),
        ("pcap:a+record:", "no file name, wants record:FILE"),
        ("pcap:none?csum=of", "none: no option 'csum=of', there is csum=fix"),
        ("pcap:none?mss=", "none: no option 'mss=', there is csum=fix"),
        ("pcap:none?csum=fix", "none: cannot be opened: No such file"),
        ("pcap:none?", r"none\?: cannot be opened: No such file"),
        ("pcap:?csum=fix", r"port 'pcap:\?csum=fix': no file name, wants pcap:FILE\["),
        ("pcap:a\0b", "no file name"),
        ("pcap:a+gen:60x5", r"\+ joins one that plays \(pcap:FILE\[\?csum=fix\], gen:SIZ"),
        ("record:a+null:", r"one that records \(record:FILE, null:\)"),
        ("echo:+record:a", r"\+ joins"),
        ("pcap:a+record:b+null:", r"\+ joins"),
        ("gen:60", "gen: wants SIZExCOUNT"),
        ("null:x", "null: takes no argument"),
    ],
)
def test_a_bad_specification_is_one_clear_line(spec: str, message: str) -> None:
    with pytest.raises(PortError, match=message) as caught:
        open_port(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["gen:60x3", "null:", "echo:"])
def test_the_name_of_a_port_is_its_specification(spec: str) -> None:
    assert open_port(spec).name == spec


def test_a_joined_port_plays_the_one_and_records_to_the_other(
    capture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.pcap"
    port = open_port(f"record:{out}+pcap:{capture}")
    assert port.name == f"pcap:{capture}+record:{out}"
    assert port.expected is None
    frames, _ = drain(port)
    batch = new_batch()
    batch.append(frame(9), timestamp=5)
    port.push(batch)
    port.finish()
    port.close()
    assert [data for _, data in frames] == [frame(1), frame(2)]
    assert play(out) == ([(5, frame(9))], "")
    counters = port.counters
    assert (counters.frames_in, counters.frames_out) == (2, 1)
    assert (counters.bytes_in, counters.bytes_out) == (120, 60)


def test_ports_come_in_the_order_of_the_specifications(tmp_path: Path) -> None:
    specs = [f"record:{tmp_path}/a", "gen:60x1", "null:"]
    assert [opened(port).name for port in open_ports(specs)] == specs


def files(spec: str) -> list[str | None]:
    return [part.file for part in parse(spec)]


def test_an_option_is_no_part_of_the_file_unless_a_file_is_called_so(
    capture: Path, tmp_path: Path
) -> None:
    assert files(f"pcap:{capture}?csum=fix+record:b?csum=fix") == [str(capture), "b?csum=fix"]
    assert files("pcap:-?csum=fix") == ["-"]
    assert files("gen:60x1") == [None]
    for name in ("what?.pcap", "a?b=c.pcap", "x?CSUM=fix"):
        assert files(f"pcap:{name}") == [name]
    odd = tmp_path / "in.pcap?csum=fix"
    odd.write_bytes(capture.read_bytes())
    assert files(f"pcap:{odd}") == [str(odd)]
    assert files(f"pcap:{odd}?csum=fix") == [str(odd)]
    assert len(drain(opened(open_port(f"pcap:{odd}?csum=fix")))[0]) == 2


def test_a_file_with_an_option_behind_it_is_not_overwritten(capture: Path) -> None:
    content = capture.read_bytes()
    with pytest.raises(PortError, match="cannot be recorded to, the run reads it as"):
        open_ports([f"pcap:{capture}?csum=fix", f"record:{capture}"])
    assert capture.read_bytes() == content


def clashing(capture: Path, tmp_path: Path, how: str) -> str:
    name = tmp_path / "other.pcap"
    if how == "same":
        return str(capture)
    if how == "relative":
        return os.path.relpath(capture)
    (os.symlink if how == "symlink" else os.link)(capture, name)
    return str(name)


@pytest.mark.parametrize("how", ["same", "relative", "symlink", "hard link"])
@pytest.mark.parametrize("joined", [False, True])
def test_a_file_that_is_read_is_not_overwritten(
    capture: Path, tmp_path: Path, how: str, joined: bool
) -> None:
    content = capture.read_bytes()
    specs = [f"pcap:{capture}", f"record:{clashing(capture, tmp_path, how)}"]
    with pytest.raises(PortError, match="cannot be recorded to, the run reads it as"):
        open_ports(["+".join(specs)] if joined else specs)
    assert capture.read_bytes() == content


@pytest.mark.parametrize("exists", [False, True])
def test_a_file_is_not_recorded_to_twice(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "out.pcap"
    if exists:
        path.write_bytes(b"precious")
    os.symlink(path, tmp_path / "link.pcap")
    with pytest.raises(PortError, match=r"link\.pcap: cannot be recorded to, the run writes it as"):
        open_ports([f"record:{path}", f"record:{tmp_path}/link.pcap"])
    assert path.exists() == exists
    assert not exists or path.read_bytes() == b"precious"


def test_devices_may_be_recorded_to_twice() -> None:
    for port in open_ports(["record:/dev/null", "record:/dev/null"]):
        port.close()


@pytest.mark.parametrize("bad", ["gen:60", "null:x", "pcap:/none", "pcap:BAD", "veth:x"])
def test_nothing_is_overwritten_when_another_port_is_no_good(tmp_path: Path, bad: str) -> None:
    (tmp_path / "bad.pcap").write_bytes(b"not a capture")
    out = tmp_path / "out.pcap"
    out.write_bytes(b"precious")
    with pytest.raises(PortError):
        open_ports([f"record:{out}", bad.replace("BAD", f"{tmp_path}/bad.pcap")])
    assert out.read_bytes() == b"precious"


def test_ports_that_did_open_are_closed_when_another_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    from xennet.port.record import RecordPort

    close = RecordPort.close
    monkeypatch.setattr(RecordPort, "close", lambda p: (close(p), closed.append(p.name)))
    with pytest.raises(PortError, match="Is a directory"):
        open_ports([f"record:{tmp_path}/a", f"record:{tmp_path}"])
    assert closed == [f"record:{tmp_path}/a"]


def test_closing_a_joined_port_closes_both_even_if_one_fails(tmp_path: Path) -> None:
    from xennet.port.base import BasePort
    from xennet.port.duplex import DuplexPort

    closed = []

    class Failing(BasePort):
        def close(self) -> None:
            closed.append(self.name)
            raise PortError(self.name)

    port: Port = DuplexPort(Failing("one"), Failing("two"))
    with pytest.raises(PortError, match="two"):
        port.close()
    assert closed == ["one", "two"]


def test_a_joined_port_passes_on_that_nothing_more_comes() -> None:
    from xennet.port.duplex import DuplexPort
    from xennet.port.echo import EchoPort

    echo = EchoPort()
    port = DuplexPort(open_port("gen:60x0"), echo)
    port.finish()
    assert echo.exhausted
