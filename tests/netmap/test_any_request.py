"""Any bytes as a request, an option or a ring: an errno, never an exception."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from netmap_clients import Client, all_free, opened

from xennet.abi.netmap import HEADER, NIOCCTRL, NIOCRXSYNC, NIOCTXSYNC, OPTION
from xennet.abi.netmap_legacy import NIOCCONFIG, NIOCGINFO, NIOCREGIF, NMREQ
from xennet.netmap.device import Device
from xennet.netmap.kloop import Kloop
from xennet.netmap.net_interface import NetInterface, join_pair
from xennet.netmap.requests import REQUESTS

NAMES = st.one_of(
    st.sampled_from(
        [b"vale0:a", b"vale0:", b"va", b"vb", b"va{1", b"va}1", b"vale1:va", b"", b"{", b"x{y"]
    ),
    st.binary(max_size=64),
)
SMALL = st.one_of(st.integers(0, 9), st.sampled_from([0xFFFF, 0xFFFFFFFF]))
BODIES = st.one_of(
    st.binary(max_size=72),
    # Mostly zeros: what gets through the first checks.
    st.dictionaries(st.integers(0, 71), st.integers(0, 8), max_size=6).map(
        lambda places: bytes(places.get(i, 0) for i in range(72))
    ),
)
OPTIONS = st.lists(
    st.tuples(st.integers(0, 8), st.one_of(st.just(32), SMALL), st.binary(max_size=80)),
    max_size=3,
)


#: nr_flags and nr_mode of a registration that may be a monitor, or have control blocks.
KINDS = st.sampled_from([0x100, 0x200, 0x400, 0x700, 0x800, 0xC00])


def machine() -> Device:
    device = Device()
    join_pair(*(device.state.add_interface(NetInterface(name)) for name in ("va", "vb")))
    return device


def ask(
    client: Client, reqtype: int, name: bytes, body: bytes, options: list[tuple[int, int, bytes]]
) -> int:
    memory = client.memory
    following = 0
    for option_type, size, rest in reversed(options):
        raw = OPTION.pack(following, option_type, 0, size) + rest.ljust(80, b"\0")
        following = memory.map(bytearray(raw))
    body_at = memory.map(bytearray(body.ljust(72, b"\0"))) if body else 0
    header = HEADER.pack(14, reqtype, 0, name[:64], following, body_at)
    return client.device.ioctl(client.file, NIOCCTRL, memory.map(bytearray(header)))


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 16), NAMES, BODIES, OPTIONS), max_size=12)
)
def test_any_request_has_an_errno(
    calls: list[tuple[int, int, bytes, bytes, list[tuple[int, int, bytes]]]],
) -> None:
    device = machine()
    clients = [Client(device) for _ in range(3)]
    for which, reqtype, name, body, options in calls:
        request = REQUESTS.get(reqtype)
        shown = body if request is not None and request.body is not None else b""
        assert 0 <= ask(clients[which], reqtype, name, shown, options) < 200
        for command in (NIOCTXSYNC, NIOCRXSYNC):
            assert device.ioctl(clients[which].file, command) in (0, 6, 16)
        clients[which].file.poll(5)
    for client in clients:
        client.close()
    if device.state.regions.shared.active == 0:
        assert all_free(device.state.regions.shared)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(["open", "txsync", "rxsync", "poll", "turn", "stop", "start", "close"]),
            st.sampled_from(["vale0:a", "va", "va{1", "va}1"]),
            KINDS,
            st.integers(0, 40),
        ),
        max_size=25,
    )
)
def test_monitors_and_kernel_loops_survive_any_order(
    calls: list[tuple[int, str, str, int, int]],
) -> None:
    device = machine()
    clients: dict[int, Client] = {}
    for which, what, name, flags, value in calls:
        client = clients.setdefault(which, Client(device))
        if what == "open":
            client.register(name, nr_flags=flags, nr_mode=1 + value % 3)
            if flags & 0x800 and client.file.registration is not None:
                blocks = [client.memory.map(bytearray(value * 64)) for _ in range(2)]
                raw = b"".join(block.to_bytes(8, "little") for block in blocks)
                ask(client, 15, b"", b"", [(3, 16, raw)])
        elif what == "close":
            clients.pop(which).close()
        elif what == "turn":
            if isinstance(client.file.kloop, Kloop):
                client.memory.write(client.file.kloop.blocks.atok, value.to_bytes(4, "little") * 2)
            device.state.pump.pass_time(1_000_000)
        elif what in ("start", "stop"):
            ask(client, 13 if what == "start" else 14, b"", b"\0" if what == "start" else b"", [])
        elif client.file.registration is not None:
            client.write(what == "txsync", value % 9, value % 9)
            {"txsync": client.txsync, "rxsync": client.rxsync}.get(
                what, lambda client=client: client.file.poll(5)
            )()
    for client in clients.values():
        client.close()
    assert all_free(device.state.regions.shared)
    assert list(device.state.regions.by_id) == [1]


@given(st.binary(min_size=HEADER.size, max_size=HEADER.size), st.integers(0, 2**32))
def test_any_header_has_an_errno(header: bytes, command: int) -> None:
    client = Client(machine())
    address = client.memory.map(bytearray(header))
    for number in (NIOCCTRL, NIOCREGIF, NIOCGINFO, NIOCCONFIG, command):
        assert 0 <= client.device.ioctl(client.file, number, address) < 200


@given(
    st.integers(0, 13),
    st.sampled_from([b"vale0:a", b"va", b"vale0:va", b""]),
    st.tuples(*[SMALL] * 14),
)
def test_any_legacy_request_has_an_errno(cmd: int, name: bytes, values: tuple[int, ...]) -> None:
    client = Client(machine())
    fields = {
        field: value & ((1 << 8 * NMREQ.sizes[field]) - 1)
        for field, value in zip(NMREQ.fields[1:], values, strict=True)
    }
    fields |= {"nr_version": 14, "nr_cmd": cmd}
    raw = NMREQ.pack(name, *(fields[field] for field in NMREQ.fields[1:]))
    for command in (NIOCREGIF, NIOCGINFO):
        assert (
            0 <= client.device.ioctl(client.file, command, client.memory.map(bytearray(raw))) < 200
        )
    client.close()


@given(
    st.sampled_from(["vale0:a", "va", "va{1", "vale0:a{1"]),
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 32), st.integers(0, 2**32 - 1)), max_size=9
    ),
    st.integers(0, 8),
)
def test_any_words_in_rings_are_survived(
    name: str, words: list[tuple[int, int, int]], head: int
) -> None:
    device = machine()
    client, other = opened(device, name), opened(device, "vale0:z")
    rings = [client.ring(True), client.ring(False)]
    for i, word, value in words:
        at = rings[i % 2].offset // 4 + (64 + word if i > 3 else 5 + word % 4)
        client.region.u32[at] = value
    if head < 8:
        client.write(True, head, head)
    for _ in range(3):
        assert client.txsync() == client.rxsync() == 0
        client.file.poll(5)
        assert other.rxsync() == 0
    client.close()
    other.close()
    assert all_free(device.state.regions.shared)
