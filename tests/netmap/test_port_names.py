"""Names of ports: records of libnetmap and of nm_open, and what they have no row for."""

from __future__ import annotations

import json
from contextlib import suppress
from errno import EINVAL, ENXIO, EOPNOTSUPP
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennet.abi.netmap import NR_EXCLUSIVE, NR_REG_ONE_NIC, NR_REG_ONE_SW, NR_RX_RINGS_ONLY
from xennet.netmap import NetmapError
from xennet.netmap.device import Device
from xennet.netmap.replay.record_files import play_files
from xennet.netmap.user.c_numbers import atoi, strtol
from xennet.netmap.user.nm_open import OldName, nm_open, parse_old_name
from xennet.netmap.user.nmport import parsed
from xennet.netmap.user.port_name import Extmem, Offsets, parse_port_name

DATA = Path(__file__).parents[1] / "data" / "netmap"


def never(name: str) -> int:
    raise AssertionError(f"nobody asked for the memory of {name}")


@pytest.mark.parametrize("topic", sorted(p.stem for p in DATA.glob("names_*.json")))
def test_every_name_is_as_recorded(topic: str) -> None:
    ((_, played),) = play_files([DATA / f"{topic}.json"])
    assert [o.case_id for o in played.differ] == []
    assert len(played.outcomes) > 70


def test_a_name_that_differs_is_told(tmp_path: Path) -> None:
    rows = json.loads((DATA / "names_libnetmap.json").read_text())
    rows[0]["mode"] = 2
    rows[1] = {"name": rows[1]["name"], "errno": "EINVAL"}
    path = tmp_path / "names.json"
    path.write_text(json.dumps(rows))
    ((_, played),) = play_files([path])
    first, second = (outcome.difference for outcome in played.differ)
    assert first is not None
    assert second is not None
    assert (first.key, first.recorded, first.actual) == ("mode", 2, 1)
    assert (second.key, second.recorded, second.actual) == ("errno", "EINVAL", 0)


@pytest.mark.parametrize(
    ("text", "name", "register"),
    [
        ("vale0:1-3/xR@7", "vale0:1", (NR_REG_ONE_NIC, 3, NR_EXCLUSIVE | NR_RX_RINGS_ONLY, 7)),
        ("netmap:eth0^2/x", "eth0", (NR_REG_ONE_SW, 2, NR_EXCLUSIVE, 0)),
        ("netmap:eth0@2@2/x", "eth0", (1, 0, NR_EXCLUSIVE, 2)),
        ("netmap:eth0@99999999999999999999999", "eth0", (1, 0, 0, 65535)),
        ("netmap:eth0/@1", "eth0", (1, 0, 0, 1)),
    ],
)
def test_what_a_name_asks_for(text: str, name: str, register: tuple[int, ...]) -> None:
    port = parse_port_name(text, never)
    assert port.name == name
    fields = [port.register[f"nr_{field}"] for field in ("mode", "ringid", "flags", "mem_id")]
    assert tuple(fields) == register
    assert (port.mode, port.flags) == (register[0], register[2])


def test_rings_and_slots_of_one_direction_go_over_those_of_both() -> None:
    conf = "@conf:rx-rings=5,rings=3,slots=70000,tx_slots=,host-tx-rings=-1,rx-slots= 9x"
    register = parse_port_name(f"netmap:eth0{conf}", never).register
    assert (register["nr_tx_rings"], register["nr_rx_rings"]) == (3, 5)
    assert (register["nr_tx_slots"], register["nr_rx_slots"]) == (70000, 9)
    assert register["nr_host_tx_rings"] == 65535
    assert "nr_host_rx_rings" not in register


def test_a_file_as_memory() -> None:
    for text in ("@extmem:file=/a,buf-num=10,if_size=4294967299", "@extmem:buf-num=10,file=/a"):
        extmem = parse_port_name(f"netmap:eth0{text}", never).extmem
        assert extmem is not None
        assert extmem.file == "/a"
        assert extmem.pools["nr_buf_pool_objtotal"] == 10
    assert parse_port_name("netmap:eth0@extmem=/a=b,c", never).extmem == Extmem("/a=b,c", {})


def test_offsets_are_taken_by_programs_that_say_so() -> None:
    port = parse_port_name("vale0:a@offset:initial=64,bits=16", never, offsets=True)
    assert port.offsets == Offsets(64, 16)
    assert parse_port_name("vale0:a@offset=8", never, offsets=True).offsets == Offsets(8, 0)


def test_the_memory_of_another_port() -> None:
    asked = []

    def mem_id_of(name: str) -> int:
        asked.append(name)
        return 5

    port = parse_port_name("netmap:a@share=vale0:b-7", mem_id_of)
    assert port.register["nr_mem_id"] == 5
    assert parse_port_name("netmap:a@5@share:port=netmap:c{1", mem_id_of).register["nr_mem_id"] == 5
    assert asked == ["vale0:b", "c{1"]
    with pytest.raises(NetmapError, match="cannot set mem_id to 5, already set to 4"):
        parse_port_name("netmap:a@4@share=vale0:b", mem_id_of)


def test_the_memory_of_another_port_is_asked_of_the_device() -> None:
    device = Device()
    assert parsed("netmap:a@share=vale0:b", device).register["nr_mem_id"] == 2
    with pytest.raises(NetmapError) as caught:
        parsed("netmap:a@share=netmap:b", device)
    assert caught.value.errno == ENXIO


@pytest.mark.parametrize(
    ("text", "errno", "says"),
    [
        ("eth0", EINVAL, "eth0: invalid request, prefix unknown or missing"),
        ("netmap", EINVAL, "netmap: missing ':'"),
        ("netmapx:a", EINVAL, "no identifier allowed between 'netmap' and ':'"),
        ("vale-:a", EINVAL, "vale-:a: invalid identifier '-'"),
        ("netmap:a{", EINVAL, "netmap:a{: invalid empty pipe name"),
        ("netmap:a{b{", EINVAL, "invalid pipe name 'b{'"),
        ("netmap:", EINVAL, "netmap:: invalid empty port name"),
        ("netmap:" + 64 * "a", EINVAL, "too long"),
        ("netmap:a^1x", EINVAL, "unexpected character: 'x'"),
        ("netmap:a-x", EINVAL, "got 'x' while expecting a number"),
        ("netmap:a-4095", EINVAL, r"4095 out of range \[0, 4095\)"),
        ("netmap:a/", EINVAL, "unexpected end of request"),
        ("netmap:a/y", EINVAL, "unrecognized flag: 'y'"),
        ("netmap:a@", EINVAL, "invalid empty mem_id"),
        ("netmap:a@0", EINVAL, "invalid mem_id: 0"),
        ("netmap:a@1@2", EINVAL, r"invalid setting of mem_id to 2 \(already set to 1\)"),
        ("netmap:a@conf:@", EINVAL, "invalid empty option"),
        ("netmap:a@x:", EINVAL, "unknown option: 'x'"),
        ("netmap:a@offset=1", EOPNOTSUPP, "option 'offset' is not supported"),
        ("netmap:a@conf", EINVAL, "missing body after 'conf'"),
        ("netmap:a@conf=1", EINVAL, "'=' not valid after 'conf'"),
        ("netmap:a@extmem=", EINVAL, "missing value for option 'extmem'"),
        ("netmap:a@extmem=b@extmem=c", EINVAL, "extmem already in use"),
        ("netmap:a@conf:slot=1", EINVAL, "unknown key: 'slot'"),
        ("netmap:a@conf:slots=1,", EINVAL, "unknown key: ''"),
        ("netmap:a@conf:slots=1,slots=2", EINVAL, "duplicate key 'slots', already set to '1'"),
        ("netmap:a@conf:slots", EINVAL, "missing '=value' for key 'slots'"),
        ("netmap:a@extmem:file=", EINVAL, "mandatory key 'file' not assigned"),
    ],
)
def test_what_is_wrong_with_a_name(text: str, errno: int, says: str) -> None:
    with pytest.raises(NetmapError, match=says) as caught:
        parse_port_name(text, never)
    assert caught.value.errno == errno


@pytest.mark.parametrize(
    ("text", "errno", "says"),
    [
        ("eth0", 0, "'eth0' is no name of netmap"),
        ("vale0", EINVAL, "missing ':' in vale name"),
        ("vale-:a", EINVAL, "invalid bridge name"),
        ("vale0:a b", EINVAL, "invalid bridge port name"),
        ("netmap:" + 16 * "a", EINVAL, "name too long"),
        ("netmap:a-", EINVAL, "'' is no number from 0 to 4094"),
        ("netmap:a/", EINVAL, "unexpected end of port name"),
        ("netmap:a/q", EINVAL, "unrecognized flag: 'q'"),
        ("netmap:a@1@1", EINVAL, "double setting of mem_id"),
        ("netmap:a@x", EINVAL, "invalid mem_id: 'x'"),
        ("netmap:a*x", EINVAL, "unexpected character: 'x'"),
    ],
)
def test_what_is_wrong_with_a_name_of_nm_open(text: str, errno: int, says: str) -> None:
    with pytest.raises(NetmapError, match=says) as caught:
        parse_old_name(text)
    assert caught.value.errno == errno


def test_nm_open_takes_no_number_for_zero() -> None:
    assert parse_old_name("netmap:a-/x@7") == OldName("a", NR_REG_ONE_NIC | NR_EXCLUSIVE, 0, 7)
    assert parse_old_name("vale0:a{@1/R").mem_id == 1
    with pytest.raises(NetmapError, match="unexpected character: 'x'"):
        parse_old_name("netmap:a-x")


def test_nm_open_leaves_nothing_open_when_it_fails() -> None:
    device = Device()
    with pytest.raises(NetmapError) as caught:
        nm_open("netmap:a", device)
    assert caught.value.errno == ENXIO
    assert nm_open("vale0:a/x", device).req.nr_arg2 == 2
    with pytest.raises(NetmapError, match="EBUSY"):
        nm_open("vale0:a", device)


ALPHABET = "netmap:vale0:a{}-*^/@xztrRT019,=:_ confslotsringsextmemfileshareportoffset\0é\udcff"


@given(st.text(ALPHABET, max_size=40), st.booleans())
def test_any_text_is_a_name_or_an_error(text: str, prefixed: bool) -> None:
    name = f"netmap:{text}" if prefixed else text
    for parse in (lambda: parsed(name, Device(), offsets=True), lambda: parse_old_name(name)):
        with suppress(NetmapError):
            parse()


def test_numbers_as_c_reads_them() -> None:
    assert strtol(" \t-12x") == (-12, 5)
    assert strtol("x") == (0, 0)
    assert strtol("+") == (0, 0)
    assert strtol("9" * 30) == (2**63 - 1, 30)
    assert atoi("-1", 16) == 65535
    assert atoi("65537", 16) == 1
    assert atoi("9" * 30, 32) == 2**32 - 1
    assert atoi("", 32) == 0
