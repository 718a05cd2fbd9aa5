"""Each refusal of a request with its errno, and in which order refusals are looked for."""

from __future__ import annotations

import os
from errno import (
    EBADF,
    EBUSY,
    EEXIST,
    EFAULT,
    EINVAL,
    EIO,
    EMSGSIZE,
    ENOENT,
    ENOMEM,
    ENXIO,
    EOPNOTSUPP,
)

import pytest
from netmap_clients import Client, opened

from xennet.abi import netmap as abi
from xennet.abi.netmap_legacy import NIOCCONFIG, NIOCGINFO, NIOCREGIF, NMREQ
from xennet.netmap.device import PENDING, Device
from xennet.netmap.errors import NetmapError
from xennet.netmap.net_interface import NetInterface

REGISTER, INFO, ATTACH, DETACH, LIST = 1, 2, 3, 4, 5
HDR_SET, HDR_GET, NEWIF, DELIF, POLL_ON, POLL_OFF, POOLS, START, STOP, CSB = range(6, 16)
EXTMEM, EVENTFDS, CSB_OPTION, MODE, OFFSETS = range(1, 6)
BODIES = {
    REGISTER: abi.REGISTER,
    INFO: abi.PORT_INFO,
    ATTACH: abi.VALE_ATTACH,
    DETACH: abi.VALE_DETACH,
    LIST: abi.VALE_LIST,
    HDR_SET: abi.PORT_HDR,
    HDR_GET: abi.PORT_HDR,
    NEWIF: abi.VALE_NEWIF,
    POLL_ON: abi.VALE_POLLING,
    POLL_OFF: abi.VALE_POLLING,
    POOLS: abi.POOLS_INFO,
    START: abi.KLOOP_START,
}
#: An option: type, nro_size, body.
Option = tuple[int, int, bytes]


class Asker(Client):
    """A client that makes any request. After one, ``reply`` has the fields of the body, ``header``
    the header, ``statuses`` those of the options."""

    def ask(
        self, reqtype: int, name: str = "", *options: Option, version: int = 14, **fields: int
    ) -> int:
        following, chain = 0, []
        for option_type, size, body in reversed(options):
            raw = abi.OPTION.pack(following, option_type, 0, size) + body
            following = self.memory.map(bytearray(raw))
            chain.insert(0, following)
        reserved = fields.pop("reserved", 0)
        codec, body_at = BODIES.get(reqtype), 0
        if codec is not None:
            defaults = {"nr_mode": 1} if reqtype == REGISTER else {}
            defaults |= {"reg.nr_mode": 1} if reqtype == ATTACH else {}
            values = dict.fromkeys(codec.fields, 0) | defaults
            values |= {key.replace("__", "."): value for key, value in fields.items()}
            body_at = self.memory.map(bytearray(codec.pack(*(values[f] for f in codec.fields))))
        header = abi.HEADER.pack(version, reqtype, reserved, name.encode(), following, body_at)
        at = self.memory.map(bytearray(header))
        errno = self.device.ioctl(self.file, abi.NIOCCTRL, at)
        self.header = abi.HEADER.read(self.memory.read(at, abi.HEADER.size))
        if codec is not None:
            raw = self.memory.read(body_at, codec.size)
            self.reply = dict(zip(codec.fields, codec.unpack_from(raw), strict=True))
        self.statuses = [
            abi.OPTION.read(self.memory.read(address, abi.OPTION.size)).nro_status
            for address in chain
        ]
        self.options = [
            self.memory.read(address + abi.OPTION.size, len(option[2]))
            for address, option in zip(chain, options, strict=True)
        ]
        return errno


@pytest.fixture
def asker() -> Asker:
    return first_client()


def first_client() -> Asker:
    """Of a machine with three interfaces."""
    device = Device()
    for name, mtu in (("dm0", 1500), ("big", 2049), ("fits", 2048)):
        device.state.add_interface(NetInterface(name, mtu))
    return Asker(device)


def another(asker: Asker) -> Asker:
    return Asker(asker.device)


def offsets(largest: int, initial: int = 0, bits: int = 16) -> Option:
    numbers = [(largest, 8), (initial, 8), (bits, 4), (0, 4), (0, 8)]
    return OFFSETS, 32, b"".join(n.to_bytes(size, "little") for n, size in numbers)


def control_blocks(asker: Asker, shift: int = 0) -> Option:
    places = [asker.memory.map(bytearray(4096)) + shift for _ in range(2)]
    return CSB_OPTION, 16, b"".join(place.to_bytes(8, "little") for place in places)


@pytest.mark.parametrize("version", [0, 13, 16, 65535])
def test_a_version_is_looked_at_before_anything(asker: Asker, version: int) -> None:
    assert asker.ask(INFO, "x" * 64, version=version) == EINVAL
    assert asker.header.nr_name == b"x" * 64


def test_the_reserved_field_has_to_be_zero_and_stays(asker: Asker) -> None:
    assert asker.ask(INFO, "x" * 64, reserved=7) == EINVAL
    assert (asker.header.nr_reserved, asker.header.nr_name) == (7, b"x" * 63 + b"\0")


@pytest.mark.parametrize("version", [14, 15])
def test_two_versions_are_spoken(asker: Asker, version: int) -> None:
    assert asker.ask(INFO, "dm0", version=version) == 0


@pytest.mark.parametrize(
    ("number", "errno"), [(120, EOPNOTSUPP), (127, EOPNOTSUPP), (128, EMSGSIZE)]
)
def test_so_many_empty_options_fit_a_register(asker: Asker, number: int, errno: int) -> None:
    assert asker.ask(REGISTER, "vale0:a", *[(9, 0, b"")] * number) == errno
    assert set(asker.statuses) == ({EOPNOTSUPP} if errno == EOPNOTSUPP else {0})


def test_an_option_is_there_once(asker: Asker) -> None:
    assert asker.ask(REGISTER, "vale0:a", offsets(64), (9, 0, b""), offsets(64)) == EINVAL
    assert asker.statuses == [EINVAL, 0, EINVAL]
    assert asker.ask(REGISTER, "vale0:a", (9, 0, b""), (9, 0, b"")) == EOPNOTSUPP
    assert asker.statuses == [EOPNOTSUPP, EOPNOTSUPP]


def test_an_option_s_size_has_an_end(asker: Asker) -> None:
    assert asker.ask(REGISTER, "vale0:a", (9, 4097, b"")) == EMSGSIZE
    assert asker.ask(REGISTER, "vale0:a", (9, 4096, b"")) == EOPNOTSUPP


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_request_that_is_not_all_there(asker: Asker, shift: int) -> None:
    at = asker.memory.map(bytearray(abi.HEADER.size))
    at += 4096 if shift > 0 else -8
    assert asker.device.ioctl(asker.file, abi.NIOCCTRL, at) == EFAULT
    for command in (NIOCREGIF, NIOCGINFO):
        assert asker.device.ioctl(asker.file, command, 8) == EFAULT


def test_ioctls_without_a_registration(asker: Asker) -> None:
    for command in (abi.NIOCTXSYNC, abi.NIOCRXSYNC):
        assert asker.device.ioctl(asker.file, command) == ENXIO
    assert asker.ask(START) == asker.ask(STOP) == ENXIO
    assert asker.ask(START, sleep_us=1_000_001) == EINVAL
    assert asker.ask(CSB) == EINVAL
    assert asker.ask(CSB, "", control_blocks(asker)) == EINVAL
    assert asker.device.ioctl(asker.file, 0x5401) == EOPNOTSUPP
    assert asker.device.ioctl(asker.file, NIOCCONFIG) == asker.device.read_write() == EINVAL
    with pytest.raises(NetmapError) as caught:
        asker.file.mmap(4096)
    assert caught.value.errno == EINVAL
    assert asker.file.poll(5) == 8


@pytest.mark.parametrize(
    ("name", "fields", "errno"),
    [
        ("nosuch", {}, ENXIO),
        ("", {}, ENXIO),
        ("val", {}, ENOMEM),
        ("valx", {}, ENOMEM),
        ("vale0:" + "p" * 16, {}, ENOMEM),
        ("vale-1:p", {}, ENOMEM),
        ("vale0:dm0", {}, EINVAL),
        ("dm0", {"nr_mem_id": 9}, EINVAL),
        ("nosuch", {"nr_mem_id": 9}, EINVAL),
        ("dm0", {"nr_mode": 0}, EINVAL),
        ("dm0", {"nr_mode": 9}, EINVAL),
        ("dm0", {"nr_mode": 5}, EINVAL),
        ("vale0:a", {"nr_mode": 2}, EINVAL),
        ("vale0:a", {"nr_mode": 8}, EINVAL),
        ("vale0:a", {"nr_mode": 4, "nr_ringid": 1}, EINVAL),
        ("dm0", {"nr_mode": 8, "nr_ringid": 1}, EINVAL),
        ("big", {}, EINVAL),
        ("big", {"nr_mode": 2}, EINVAL),
        ("big", {"nr_flags": abi.NR_TX_RINGS_ONLY}, 0),
        ("fits", {}, 0),
        ("x", {"nr_mode": 7}, EINVAL),
        ("x", {"nr_mode": 7, "nr_mem_id": 1, "nr_tx_rings": 201}, ENOMEM),
        ("dm0{", {}, EINVAL),
        ("{p", {}, EINVAL),
        ("dm0{p", {"nr_mode": 3}, EINVAL),
        ("dm0{p", {"nr_tx_slots": 5000}, ENOMEM),
        ("a" * 16 + "{p", {}, ENXIO),
        ("dm0", {"nr_flags": abi.NR_MONITOR_RX}, EINVAL),
        ("nosuch", {"nr_flags": abi.NR_MONITOR_RX}, ENXIO),
    ],
)
def test_register(asker: Asker, name: str, fields: dict[str, int], errno: int) -> None:
    assert asker.ask(REGISTER, name, **fields) == errno
    asker.close()
    assert list(asker.device.state.regions.by_id) == [1]
    assert not any(switch.active for switch in asker.device.state.switches.all)


def test_a_file_is_registered_once_and_a_ring_may_be_one_client_s(asker: Asker) -> None:
    assert asker.ask(REGISTER, "dm0", nr_flags=abi.NR_EXCLUSIVE) == 0
    assert asker.ask(REGISTER, "nosuch") == EBUSY
    assert another(asker).ask(REGISTER, "dm0") == EBUSY
    assert another(asker).ask(REGISTER, "dm0", nr_mode=2) == 0
    assert another(asker).ask(REGISTER, "dm0", nr_mode=3, nr_flags=abi.NR_EXCLUSIVE) == EBUSY
    with pytest.raises(NetmapError):
        asker.file.mmap(asker.region.memsize + 4096)
    assert len(asker.file.mmap(4096)) == 4096


def test_headers_of_frames(asker: Asker) -> None:
    port = opened(asker.device, "vale0:a")
    assert [asker.ask(HDR_SET, "vale0:a", nr_hdr_len=n) for n in (0, 9, 10, 11)] == [
        0,
        EINVAL,
        0,
        EINVAL,
    ]
    assert another(asker).ask(REGISTER, "vale0:a") == EIO
    assert another(asker).ask(REGISTER, "vale0:a", nr_flags=abi.NR_ACCEPT_VNET_HDR) == 0
    assert asker.ask(HDR_GET, "vale0:a") == 0
    assert asker.reply["nr_hdr_len"] == 10
    assert asker.ask(HDR_SET, "vale0:b", nr_hdr_len=10) == asker.ask(HDR_GET, "vale0:b") == ENXIO
    assert asker.ask(HDR_SET, "dm0", nr_hdr_len=10) == ENXIO
    port.close()


@pytest.mark.parametrize(
    ("option", "errno"),
    [
        (offsets(64, 64), 0),
        (offsets(2048, 0, 64), 0),
        (offsets(64, 0, 0), 0),
        (offsets(2049), EINVAL),
        (offsets(64, 65), EINVAL),
        (offsets(64, 0, 65), EINVAL),
        (offsets(256, 0, 8), EINVAL),
    ],
)
def test_offsets(asker: Asker, option: Option, errno: int) -> None:
    assert asker.ask(REGISTER, "vale0:a", option) == errno
    assert asker.statuses == [errno]


def test_offsets_of_a_second_client(asker: Asker) -> None:
    assert asker.ask(REGISTER, "vale0:a", offsets(64, 0, 16)) == 0
    for option in (offsets(65), offsets(64, 0, 17)):
        second = another(asker)
        assert (second.ask(REGISTER, "vale0:a", option), second.statuses) == (EBUSY, [EBUSY])
    second = another(asker)
    assert second.ask(REGISTER, "vale0:a", offsets(32, 0, 8)) == 0
    assert int.from_bytes(second.options[0][:8], "little") == 64
    monitor = another(asker)
    assert monitor.ask(REGISTER, "vale0:a", offsets(8), nr_flags=abi.NR_ZCOPY_MON) == EOPNOTSUPP


def test_memory_that_the_pools_fill_to_the_last_byte(asker: Asker) -> None:
    """What is asked for counts, not what it is rounded up to: there are fewer buffers then."""
    asked = (2, 1024), (64, 512), (4096, 2048)
    exact = sum(number * size for number, size in asked)
    for memsize, errno in ((exact + 1, 0), (exact, 0), (exact - 1, ENOMEM)):
        info = [(memsize, 8), (0, 4), (0, 4)]
        for number, size in asked:
            info += [(0, 8), (number, 4), (size, 4)]
        address = asker.memory.map(bytearray(memsize))
        body = address.to_bytes(8, "little") + b"".join(n.to_bytes(k, "little") for n, k in info)
        client = another(asker)
        client.memory = client.file.memory = asker.memory
        slots = {"nr_tx_slots": 16, "nr_rx_slots": 16}
        assert client.ask(REGISTER, "vale0:e", (EXTMEM, 72, body), **slots) == errno
        if not errno:
            assert client.region.bufs.layout.objtotal == 4094
        client.close()


def test_control_blocks_and_the_kernel_loop(asker: Asker) -> None:
    assert asker.ask(REGISTER, "vale0:a", control_blocks(asker)) == EINVAL
    exclusive = {"nr_flags": abi.NR_EXCLUSIVE}
    assert asker.ask(REGISTER, "vale0:a", control_blocks(asker, 32), **exclusive) == EINVAL
    assert asker.ask(REGISTER, "vale0:a", (CSB_OPTION, 16, bytes(16)), **exclusive) == EFAULT
    assert asker.ask(REGISTER, "vale0:a", **exclusive) == 0
    assert asker.ask(START) == EINVAL
    assert asker.ask(CSB, "", control_blocks(asker)) == 0
    for command in (abi.NIOCTXSYNC, abi.NIOCRXSYNC):
        assert asker.device.ioctl(asker.file, command) == EBUSY
    assert asker.file.poll(5) == 8
    assert asker.ask(START, "", (MODE, 8, bytes([4] + [0] * 7))) == EINVAL
    assert asker.ask(START, "", (EVENTFDS, 39, bytes(16))) == EINVAL
    assert (
        asker.ask(START, "", (EVENTFDS, 40, b"\xff" * 16), (MODE, 8, bytes([1] + [0] * 7)))
        == EINVAL
    )
    assert asker.ask(START, "", (EVENTFDS, 40, b"\x00\x00\xff\x7f" * 4)) == EBADF
    with open(os.devnull) as no_eventfd:
        fds = no_eventfd.fileno().to_bytes(4, "little") * 4
        assert asker.ask(START, "", (EVENTFDS, 40, fds)) == EINVAL
    assert asker.ask(START, "", (EVENTFDS, 40, b"\xff" * 16)) == PENDING
    assert asker.ask(START) == EBUSY
    assert asker.ask(CSB, "", control_blocks(asker)) == EBUSY
    assert asker.ask(STOP) == 0
    assert asker.file.kloop is None
    assert asker.ask(STOP) == asker.ask(START) == 0
    assert asker.file.kloop is None  # the stop that came first has ended it


def test_switches(asker: Asker) -> None:
    ask = asker.ask
    assert ask(ATTACH, "dm0") == ask(DETACH, "dm0") == ask(POLL_ON, "dm0") == EINVAL
    assert ask(ATTACH, "vale0:nosuch") == ask(ATTACH, "vale0:dm0", reg__nr_mode=4) == EINVAL
    assert ask(DETACH, "vale0:dm0") == ask(POLL_ON, "vale0:dm0") == ENXIO
    assert ask(LIST, "vale0:dm0") == ask(LIST, "") == ENOENT
    assert ask(LIST, "dm0") == EINVAL
    assert ask(ATTACH, "vale0:dm0", reg__nr_mem_id=9) == EINVAL
    user = opened(asker.device, "dm0")
    assert ask(ATTACH, "vale0:dm0") == EBUSY
    user.close()
    assert ask(ATTACH, "vale0:dm0") == 0
    assert ask(ATTACH, "vale0:dm0") == ask(ATTACH, "vale1:dm0") == EBUSY
    assert another(asker).ask(REGISTER, "dm0") == EBUSY
    assert another(asker).ask(REGISTER, "vale0:dm0") == EBUSY
    assert another(asker).ask(REGISTER, "dm0{p") == EBUSY
    assert ask(INFO, "dm0") == ask(INFO, "vale0:dm0") == 0
    polled = {"nr_mode": 1, "nr_num_polling_cpus": 1}
    assert ask(POLL_OFF, "vale0:dm0", **polled) == EFAULT
    assert ask(POLL_ON, "vale0:dm0", nr_mode=1) == EINVAL
    assert ask(POLL_ON, "vale0:dm0", nr_mode=1, nr_num_polling_cpus=2) == EINVAL
    assert ask(POLL_ON, "vale0:dm0", **polled) == 0
    assert ask(POLL_ON, "vale0:dm0", **polled) == EFAULT
    assert ask(DETACH, "vale0:dm0") == EBUSY
    assert ask(POLL_OFF, "vale0:dm0", **polled) == ask(DETACH, "vale0:dm0") == 0
    port = opened(asker.device, "vale0:e")
    assert ask(POLL_ON, "vale0:e", **polled) == EOPNOTSUPP
    port.close()


@pytest.mark.parametrize(
    ("admode", "errno", "after"), [(0, 0, 0), (1, EOPNOTSUPP, 1), (2, 0, 2), (3, 0, 0), (-1, 0, 0)]
)
def test_which_adapter_an_interface_gets(asker: Asker, admode: int, errno: int, after: int) -> None:
    parameters = asker.device.state.parameters
    open_before = opened(asker.device, "fits")
    parameters.admode = admode
    assert asker.ask(INFO, "dm0") == asker.ask(ATTACH, "vale0:dm0") == errno
    assert parameters.admode == after
    assert another(asker).ask(REGISTER, "fits") == 0
    assert asker.ask(NEWIF, "per") == another(asker).ask(REGISTER, "per") == 0
    open_before.close()


def test_persistent_ports(asker: Asker) -> None:
    ask = asker.ask
    for name in ("vale5", "vale0:a", "a" * 16, "", "a/b", "."):
        assert ask(NEWIF, name) == EINVAL
    assert ask(NEWIF, "dm0") == EEXIST
    assert ask(DELIF, "dm0") == EINVAL
    assert ask(DELIF, "per") == ENXIO
    assert ask(NEWIF, "per", nr_mem_id=9) == EINVAL
    assert ask(NEWIF, "valx2") == ask(NEWIF, "per") == 0
    assert ask(NEWIF, "per") == EEXIST
    user = opened(asker.device, "per")
    assert ask(DELIF, "per") == EBUSY
    user.close()
    assert ask(ATTACH, "vale0:per") == 0
    assert ask(DELIF, "per") == EBUSY
    assert ask(DETACH, "vale0:per") == ask(DELIF, "per") == ask(DELIF, "valx2") == 0
    assert list(asker.device.state.regions.by_id) == [1]


def test_a_switch_has_so_many_ports_and_a_device_so_many_switches(asker: Asker) -> None:
    ports = [opened(asker.device, f"vale{i}:a", nr_mem_id=1) for i in range(8)]
    assert another(asker).ask(REGISTER, "vale8:a") == ENOMEM
    for port in ports:
        port.close()
    state = asker.device.state
    ports = [opened(asker.device, f"vale0:{i}", nr_tx_slots=1, nr_rx_slots=1) for i in range(252)]
    assert another(asker).ask(REGISTER, "vale0:z") == ENOMEM
    for port in ports:
        port.close()
    assert list(state.regions.by_id) == [1]


def test_a_full_switch_leaves_an_interface_as_it_was() -> None:
    """A NIC needs room for its host stack too, whether that is attached or not."""
    asker = first_client()  # no fixture: that is shown when a test fails, here with 252 ports
    keeper = opened(asker.device, "vale1:keeper", nr_mem_id=1)
    free = bytes(keeper.region.bufs.free)
    ports = [opened(asker.device, f"vale0:{i}", nr_tx_slots=1, nr_rx_slots=1) for i in range(251)]
    host_too = {"reg__nr_mode": abi.NR_REG_NIC_SW}
    errnos = [
        asker.ask(ATTACH, "vale0:dm0", **host_too),
        asker.ask(ATTACH, "vale0:fits"),
        asker.ask(ATTACH, "vale0:nosuch"),
        another(asker).ask(REGISTER, "vale0:fits"),
        asker.ask(DETACH, "vale0:dm0"),
    ]
    assert errnos == [0, ENOMEM, ENOMEM, ENOMEM, 0]
    ports.append(opened(asker.device, "vale0:last", nr_tx_slots=1, nr_rx_slots=1))
    errno = asker.ask(ATTACH, "vale0:fits", **host_too)
    now, taken = bytes(keeper.region.bufs.free), asker.device.state.interfaces["fits"].intercepted
    assert (errno, taken) == (ENOMEM, False)
    assert now == free
    opened(asker.device, "fits").close()
    for port in ports:
        port.close()


def test_memory_of_the_client(asker: Asker) -> None:
    def given(address: int, memsize: int, ring_size: int = 0) -> Option:
        info = bytearray(64)
        info[:8] = memsize.to_bytes(8, "little")
        info[36 + 8 : 36 + 12] = ring_size.to_bytes(4, "little")
        return EXTMEM, 72, address.to_bytes(8, "little") + bytes(info)

    memory = bytearray(16 << 20)
    address = asker.memory.map(memory)
    assert (asker.ask(REGISTER, "vale0:a", given(8, 4096)), asker.statuses) == (EFAULT, [EFAULT])
    assert (asker.ask(REGISTER, "vale0:a", given(address, 0)), asker.statuses) == (ENOMEM, [ENOMEM])
    small = given(address, 4 << 20)
    assert (asker.ask(REGISTER, "vale0:a", small), asker.statuses) == (ENOMEM, [ENOMEM])
    assert asker.ask(REGISTER, "vale0:a", given(address, 16 << 20)) == 0
    assert memory[:8] == b"vale0:a\0"
    assert asker.region.bufs.layout.objtotal == 8150
    asker.close()
    assert list(asker.device.state.regions.by_id) == [1]


@pytest.mark.parametrize(
    ("cmd", "errno"), [(3, EINVAL), (4, EINVAL), (8, ENOMEM), (9, ENOMEM), (13, EINVAL), (5, ENXIO)]
)
def test_legacy_commands(asker: Asker, cmd: int, errno: int) -> None:
    values = dict.fromkeys(NMREQ.fields, 0) | {"nr_name": b"vale0:x", "nr_cmd": cmd}
    for version, expected in ((13, EINVAL), (14, errno), (99, errno)):
        raw = NMREQ.pack(*(values | {"nr_version": version}).values())
        at = asker.memory.map(bytearray(raw))
        assert asker.device.ioctl(asker.file, NIOCREGIF, at) == expected
        assert asker.memory.read(at, NMREQ.size) == raw
