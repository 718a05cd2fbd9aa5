"""Which hash a frame gets, and which queue: by type, by mapping, and for any bytes at all."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import ARP, ICMP, MACS, TCP, UDP, frame, ipv4, ipv6, ports, tcp
from rss_vectors import KEY, V4, V6

from xennet.engine.choice import current, using
from xennet.flow.classify import classify, spread
from xennet.flow.dissect import find_flow
from xennet.flow.hash_config import ALL_TYPES, HashConfig
from xennet.frames import FrameBatch

NONE, TOEPLITZ = 0, 1
IPV4, IPV4_TCP, IPV6, IPV6_TCP = 0, 1, 2, 3
#: hash_info of each hash type under Toeplitz; NOT_HASHED is that of no hash.
INFO = [TOEPLITZ << 8 | kind + 1 for kind in range(4)]
NOT_HASHED = 0

ROW4, ROW6 = V4[0], V6[0]


def v4(payload: bytes = tcp(2794, 1766), **more: object) -> bytes:
    return ipv4(ROW4[0], ROW4[2], payload, **more)  # type: ignore[arg-type]


def v6(payload: bytes = tcp(2794, 1766), **more: object) -> bytes:
    return ipv6(ROW6[0], ROW6[2], payload, **more)  # type: ignore[arg-type]


def configured(types: int = ALL_TYPES, algorithm: int = TOEPLITZ) -> HashConfig:
    config = HashConfig()
    config.set_algorithm(TOEPLITZ)
    config.set_types(types)
    config.set_algorithm(algorithm)
    config.set_key(KEY)
    return config


def run(config: HashConfig, frames: list[bytes], queues: int = 4) -> list[tuple[int, int, int]]:
    """(hash_info, hash_value where there is a hash, queue) of each frame."""
    engine = current()
    # Each frame lies between others' bytes: looking beyond its end would find them.
    batch = FrameBatch(memoryview(bytearray(b"\x06" * (sum(map(len, frames)) + 64))), len(frames))
    for content in frames:
        batch.append(content)
    batch.hash_info[:] = array("I", [77] * len(frames))
    queue = array("I", [99] * len(frames))
    view = engine.view
    engine.kernel(classify)(
        0,
        batch.count,
        queues,
        config.views(),
        batch.for_kernels(view),
        view(queue),
    )
    rows = zip(batch.hash_info, batch.hash_value, queue, strict=True)
    return [(info, value if info else 0, q) for info, value, q in rows]


def hashed(config: HashConfig, content: bytes) -> tuple[int, int]:
    ((info, value, _),) = run(config, [content])
    return info, value


FRAMES = {
    "IPv4 TCP": (frame(v4()), IPV4, IPV4_TCP),
    "IPv4 TCP with options": (frame(v4(options=bytes(8))), IPV4, IPV4_TCP),
    "IPv4 TCP, don't fragment": (frame(v4(fragment=0x4000)), IPV4, IPV4_TCP),
    "IPv4 TCP in a VLAN": (frame(v4(), vlan=True), IPV4, IPV4_TCP),
    "IPv4 UDP": (frame(v4(protocol=UDP)), IPV4, None),
    "IPv4 ICMP": (frame(v4(protocol=ICMP)), IPV4, None),
    "IPv4 first fragment": (frame(v4(fragment=0x2000)), IPV4, None),
    "IPv4 later fragment": (frame(v4(fragment=0x0010)), IPV4, None),
    "IPv4 TCP without its ports": (frame(v4(tcp(2794, 1766)[:3])), IPV4, None),
    "IPv6 TCP": (frame(v6()), IPV6, IPV6_TCP),
    "IPv6 TCP in a VLAN": (frame(v6(), vlan=True), IPV6, IPV6_TCP),
    "IPv6 TCP behind hop-by-hop": (
        *(frame(v6(bytes([TCP, 0, *bytes(6)]) + tcp(2794, 1766), next_header=0)), IPV6, IPV6_TCP),
    ),
    "IPv6 TCP behind two extensions": (
        frame(v6(bytes([60, 0, *bytes(6), TCP, 1, *bytes(14)]) + tcp(2794, 1766), next_header=43)),
        *(IPV6, IPV6_TCP),
    ),
    "IPv6 fragment": (
        *(frame(v6(bytes([TCP, 0, *bytes(6)]) + tcp(2794, 1766), next_header=44)), IPV6, None),
    ),
    "IPv6 extension beyond the end": (
        frame(v6(bytes([TCP, 9, *bytes(6)]), next_header=0)),
        IPV6,
        None,
    ),
    "IPv6 UDP": (frame(v6(next_header=UDP)), IPV6, None),
    "ARP": (ARP, None, None),
    "an Ethernet header": (MACS + b"\x08\x00", None, None),
    "IPv4 cut in its header": (frame(v4())[:33], None, None),
    "IPv4 with options beyond the end": (frame(v4(options=bytes(40)))[:40], None, None),
    "IPv4 with a header of 16 bytes": (frame(b"\x44" + v4()[1:]), None, None),
    "IPv6 cut in its header": (frame(v6())[:53], None, None),
    "version 6 in an IPv4 frame": (frame(v4())[:14] + b"\x65" + frame(v4())[15:], None, None),
}


@pytest.mark.parametrize("types", range(16))
@pytest.mark.parametrize("name", FRAMES)
def test_the_highest_enabled_type_that_applies_is_hashed(name: str, types: int) -> None:
    content, plain, over_tcp = FRAMES[name]
    row = ROW6 if plain == IPV6 else ROW4
    wanted = (NOT_HASHED, 0)
    if over_tcp is not None and types >> over_tcp & 1:
        wanted = (INFO[over_tcp], row[5])
    elif plain is not None and types >> plain & 1:
        wanted = (INFO[plain], row[4])
    assert hashed(configured(types), content) == wanted


def test_the_queue_is_the_hash_modulo_the_queues_without_a_mapping() -> None:
    contents = [frame(ipv4(row[0], row[2], tcp(row[1], row[3]))) for row in V4]
    assert [q for _, _, q in run(configured(), contents, 3)] == [row[5] % 3 for row in V4]


def test_the_queue_is_the_entry_of_the_mapping_at_the_hash_modulo_its_size() -> None:
    config = configured()
    config.set_mapping_size(7)
    config.set_mapping(0, [3, 1, 0, 2, 2, 1, 3], 4)
    contents = [frame(ipv4(row[0], row[2], tcp(row[1], row[3]))) for row in V4]
    queues = [q for _, _, q in run(config, contents)]
    assert queues == [[3, 1, 0, 2, 2, 1, 3][row[5] % 7] for row in V4]


def test_a_mapping_made_for_more_queues_never_leads_beyond_those_there_are() -> None:
    config = configured()
    config.set_mapping_size(1)
    config.set_mapping(0, [3], 4)
    assert [q for _, _, q in run(config, [frame(v4())], 2)] == [0]


def test_a_frame_without_a_hash_goes_to_queue_0_whatever_the_mapping() -> None:
    config = configured()
    config.set_mapping_size(1)
    config.set_mapping(0, [2], 4)
    assert run(config, [ARP, frame(v4())]) == [(0, 0, 0), (INFO[IPV4_TCP], ROW4[5], 2)]


@pytest.mark.parametrize(("types", "algorithm"), [(ALL_TYPES, NONE), (0, TOEPLITZ)])
def test_without_algorithm_or_types_flows_are_kept_together_and_spread(
    types: int, algorithm: int
) -> None:
    flows = [frame(v4(tcp(1000 + i, 80))) for i in range(64)]
    rows = run(configured(types, algorithm), flows + flows)
    assert all(info == NOT_HASHED for info, _, _ in rows)
    assert rows[:64] == rows[64:]
    counts = [sum(q == n for _, _, q in rows) for n in range(4)]
    assert min(counts) >= 16  # of 128, 32 each on average


def test_all_fragments_of_a_datagram_take_one_queue_without_an_algorithm() -> None:
    config = configured(0, NONE)
    parts = [frame(v4(ports(i, 5) + bytes(8), protocol=UDP, fragment=0x2000 + i)) for i in range(9)]
    assert len({q for _, _, q in run(config, parts, 8)}) == 1


def test_a_new_key_takes_effect_at_once() -> None:
    config = configured()
    assert hashed(config, frame(v4())) == (INFO[IPV4_TCP], ROW4[5])
    config.set_key(b"")
    assert hashed(config, frame(v4())) == (INFO[IPV4_TCP], 0)
    config.set_key(KEY)
    assert hashed(config, frame(v4())) == (INFO[IPV4_TCP], ROW4[5])


good = st.sampled_from([content for content, _, _ in FRAMES.values()])
damaged = st.builds(
    lambda content, at, byte: (
        content[: at % len(content)] + bytes([byte]) + content[at % len(content) + 1 :]
    ),
    content=good,
    at=st.integers(0, 79),
    byte=st.integers(0, 255),
)
cut = st.builds(lambda content, n: content[: max(14, n)], damaged, st.integers(14, 90))
frames = st.lists(good | cut | st.binary(min_size=14, max_size=90), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(frames, st.integers(0, 15), st.integers(0, 1), st.integers(1, 5), st.integers(0, 3))
def test_any_bytes_get_a_queue_and_a_type_that_is_enabled(
    contents: list[bytes], types: int, algorithm: int, queues: int, size: int
) -> None:
    config = configured(types, algorithm)
    config.set_mapping_size(size)
    for info, _, queue in run(config, contents, queues):
        assert 0 <= queue < queues
        if info:
            assert (info >> 8, types >> (info & 0xFF) - 1 & 1) == (algorithm, 1)


def spread_by_search(content: bytes) -> int:
    """What spread is without its quick look."""
    version, addresses, ports, _ = find_flow(memoryview(content), 0, len(content))
    if not version:
        return 0
    size = 4 if version == 4 else 16
    mixed = content[addresses + size - 1] << 8 | content[addresses + 2 * size - 1]
    if ports:
        source, dest = content[ports : ports + 2], content[ports + 2 : ports + 4]
        mixed ^= int.from_bytes(dest + source, "big")
    return (mixed * 0x4F1BBCDD & 0xFFFFFFFF) >> 16


@settings(max_examples=300, deadline=None)
@given(good | cut | damaged)
def test_the_quick_look_spreads_as_the_search_does(content: bytes) -> None:
    assert spread(memoryview(content), 0, len(content)) == spread_by_search(content)


@settings(max_examples=60, deadline=None)
@given(frames, st.integers(1, 5))
def test_what_lies_behind_a_frame_has_no_influence(contents: list[bytes], queues: int) -> None:
    config = configured()
    together = run(config, contents, queues)
    assert together == [run(config, [content], queues)[0] for content in contents]


def test_compiled_as_plain(engine: str) -> None:
    config = configured()
    config.set_mapping_size(5)
    config.set_mapping(0, [0, 1, 2, 3, 1], 4)
    contents = [content for content, _, _ in FRAMES.values()]
    rows = run(config, contents)
    for (_, plain, over_tcp), (info, value, queue) in zip(FRAMES.values(), rows, strict=True):
        kind = over_tcp if over_tcp is not None else plain
        if kind is None:
            assert (info, queue) == (NOT_HASHED, 0)
            continue
        row = ROW4 if kind < IPV6 else ROW6
        wanted = row[4 + kind % 2]
        assert (info, value, queue) == (INFO[kind], wanted, [0, 1, 2, 3, 1][wanted % 5])
    config.set_algorithm(NONE)
    chosen = run(config, contents)
    with using("plain"):
        assert chosen == run(config, contents)
