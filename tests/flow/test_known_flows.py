"""What is remembered of flows is what the kernel says of each frame."""

from __future__ import annotations

from array import array
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packets import ARP, ICMP, MACS, UDP, frame, ipv4, ipv6, tcp
from rss_vectors import KEY

from xennet.engine.choice import using
from xennet.flow import known_flows
from xennet.flow.classify import classify
from xennet.flow.hash_config import ALL_TYPES, HashConfig
from xennet.flow.known_flows import KnownFlows
from xennet.frames import FrameBatch

QUEUES = 5
A, B = "192.0.2.1", "192.0.2.2"


def batch_of(contents: list[bytes]) -> FrameBatch:
    size = sum(map(len, contents))
    batch = FrameBatch(memoryview(bytearray(b"\x06" * (size + 64))), len(contents) + 2)
    for content in contents:
        batch.append(content)
    return batch


class Both:
    """Flows as they are remembered, and the kernel for comparison, in plain Python."""

    def __init__(self) -> None:
        self.config = HashConfig()
        with using("plain"):
            self.hashing = self.config.views()
        self.known = KnownFlows(self.config, QUEUES, self.hashing)

    def classify(self, contents: list[bytes], first: int = 0) -> list[tuple[int, int, int]]:
        """(hash_info, hash_value where there is a hash, queue) of each frame from ``first`` on."""
        rows = []
        for run in (self.known.run, self._kernel):
            batch = batch_of(contents)
            batch.hash_info[:] = array("I", [77] * batch.max_frames)
            queue = array("I", [99] * batch.max_frames)
            run(first, batch.count, batch.for_kernels(lambda view: view), queue)
            info, value = batch.hash_info, batch.hash_value
            assert [*info[:first], *info[batch.count :]] == [77] * (first + 2)
            assert [*queue[:first], *queue[batch.count :]] == [99] * (first + 2)
            whole = range(first, batch.count)
            rows.append([(info[i], value[i] if info[i] else 0, queue[i]) for i in whole])
        assert rows[0] == rows[1]
        return rows[0]

    def _kernel(self, *args: object) -> None:
        first, count, frames, queue = args
        classify(first, count, QUEUES, self.hashing, frames, queue)  # type: ignore[arg-type]


SEEDS = [
    frame(ipv4(A, B, tcp(1, 2))),
    frame(ipv4(A, B, tcp(1, 2), protocol=UDP)),
    frame(ipv4(A, B, tcp(1, 2), protocol=ICMP)),
    frame(ipv4(A, B, tcp(1, 2), options=bytes(4))),
    frame(ipv4(A, B, tcp(1, 2)), vlan=True),
    frame(ipv6("2001:db8::1", "2001:db8::2", tcp(1, 2))),
    ARP,
    MACS + b"\x08\x00",
]
some_frames = st.lists(
    st.tuples(
        st.sampled_from(SEEDS),
        st.lists(st.tuples(st.integers(12, 40), st.sampled_from([0, 1, 8, 0x45, 255])), max_size=2),
        st.sampled_from([0, 0, 0, 16, 17, 30]),
    ),
    min_size=1,
    max_size=6,
)


def frames_of(
    drawn: list[tuple[bytes, list[tuple[int, int]], int]],
) -> list[bytes]:
    contents = []
    for seed, changes, cut in drawn:
        content = bytearray(seed)
        for at, value in changes:
            content[at : at + 1] = bytes([value])
        contents.append(bytes(content[: max(14, len(content) - cut)]))
    return contents


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["none", "algorithm", "types", "key", "mapping", "reset"]),
            st.integers(0, 15),
            some_frames,
        ),
        max_size=6,
    ),
    st.integers(1, 9),
)
def test_flows_are_remembered_as_the_kernel_has_them(
    turns: list[tuple[str, int, list[tuple[bytes, list[tuple[int, int]], int]]]], most: int
) -> None:
    both = Both()
    config = both.config
    with patch.object(known_flows, "MOST", most):
        for what, number, drawn in turns:
            match what:
                case "algorithm":
                    config.set_algorithm(number & 1)
                case "types":
                    config.set_types(number)
                case "key":
                    config.set_key(KEY[:number])
                case "mapping":
                    config.set_mapping_size(number)
                    config.set_mapping(0, range(min(number, QUEUES)), QUEUES)
                case "reset":
                    config.reset()
            contents = frames_of(drawn)
            both.classify(contents, first=number % len(contents))
            both.classify(contents)  # as they are remembered


def hashing() -> Both:
    both = Both()
    both.config.set_algorithm(1)
    both.config.set_types(ALL_TYPES)
    both.config.set_key(KEY)
    return both


@pytest.mark.parametrize("longer", [0, 1], ids=["all of them", "all but the last"])
def test_frames_of_one_length_are_looked_up_as_others_are(longer: int) -> None:
    both = hashing()
    contents = [frame(ipv4(A, B, tcp(i % 3, 2))) for i in range(7)]
    contents[0] += bytes(5)
    contents[-1] += bytes(longer)
    assert len(set(both.classify(contents, first=1))) == 3
    assert len(set(both.classify(contents, first=1))) == 3


def test_a_frame_is_not_known_by_what_lies_where_it_would_if_all_were_of_one_length() -> None:
    both = hashing()
    usual = frame(ipv4(A, B, tcp(1, 2)))
    both.classify([usual] * 2)
    contents = [usual, usual + usual[:3], usual[3:], usual]
    assert both.classify(contents)[2][0] == 0


@pytest.mark.parametrize("place", [*range(12, 16), *range(20, 24)])
def test_one_frame_of_another_head_is_told_from_those_of_the_same_addresses(place: int) -> None:
    both = hashing()
    usual = frame(ipv4(A, B, tcp(1, 2)))
    other = bytearray(usual)
    other[place] ^= 0x17  # TCP becomes UDP
    for odd in range(3):
        contents = [usual] * 3
        contents[odd] = bytes(other)
        for _ in range(2):
            both.classify(contents)
            both.classify([usual] * 3)
            both.classify([bytes(other)] * 3)


@pytest.mark.parametrize("change", ["key", "types", "mapping"])
def test_a_change_of_the_configuration_holds_for_known_flows(change: str) -> None:
    both = hashing()
    content = frame(ipv4(A, B, tcp(1, 2)))
    ((before, value, queue),) = both.classify([content])
    match change:
        case "key":
            both.config.set_key(KEY[::-1])
            assert both.classify([content])[0][1] != value
        case "types":
            both.config.set_types(1)
            assert both.classify([content])[0][0] != before
        case "mapping":
            both.config.set_mapping_size(1)
            both.config.set_mapping(0, [(queue + 1) % QUEUES], QUEUES)
            assert both.classify([content])[0][2] == (queue + 1) % QUEUES


def test_a_fragment_is_not_known_by_what_would_be_its_ports() -> None:
    both = hashing()
    whole, fragment = (ipv4(A, B, tcp(1, 2), fragment=word) for word in (0x4000, 0x2000))
    hashes = [value for _, value, _ in both.classify([frame(whole), frame(fragment)])]
    assert hashes == [value for _, value, _ in both.classify([frame(whole), frame(fragment)])]
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("more", [{"options": bytes(8)}, {}])
def test_ports_behind_options_or_a_tag_tell_flows_apart(more: dict[str, bytes]) -> None:
    both = hashing()
    contents = [frame(ipv4(A, B, tcp(i, 2), **more), vlan=not more) for i in range(6)]  # type: ignore[arg-type]
    for _ in range(2):
        assert len({value for _, value, _ in both.classify(contents)}) == 6


def test_a_short_frame_is_not_known_by_the_bytes_behind_it() -> None:
    both = hashing()
    content = frame(ipv4(A, B, tcp(1, 2)))
    both.classify([content])
    behind = content[37:] + bytes(20)
    (_, short, _), _ = both.classify([content[:37], behind])
    assert short != both.classify([content])[0][1]


def test_no_more_flows_are_kept_than_the_bound() -> None:
    both = Both()
    with patch.object(known_flows, "MOST", 10):
        for start in range(0, 60, 6):
            both.classify([frame(ipv4(A, B, tcp(i, 2))) for i in range(start, start + 6)])
            assert 0 < both.known.count <= 10
