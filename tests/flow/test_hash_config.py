"""The rules of the control messages about hashing, each setter for itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rss_vectors import KEY

from xennet.flow.hash_config import ALL_TYPES, MAX_MAPPING_SIZE, HashConfig

SUCCESS, NOT_SUPPORTED, INVALID_PARAMETER = 0, 1, 2
NONE, TOEPLITZ = 0, 1


def state(config: HashConfig) -> tuple[int, int, bytes, list[int]]:
    return config.algorithm, config.types, config.key, config.mapping


def test_hashing_is_off_at_first() -> None:
    assert state(HashConfig()) == (NONE, 0, bytes(40), [])
    assert not HashConfig().active


@pytest.mark.parametrize("algorithm", [2, 255, 2**32 - 1])
def test_an_unknown_algorithm_is_invalid_and_changes_nothing(algorithm: int) -> None:
    config = HashConfig()
    config.set_algorithm(TOEPLITZ)
    assert config.set_algorithm(algorithm) == INVALID_PARAMETER
    assert config.algorithm == TOEPLITZ


def test_types_need_an_algorithm() -> None:
    config = HashConfig()
    assert config.supported_types() == (NOT_SUPPORTED, 0)
    assert config.set_types(1) == INVALID_PARAMETER
    config.set_algorithm(TOEPLITZ)
    assert config.supported_types() == (SUCCESS, ALL_TYPES)
    assert config.set_types(ALL_TYPES) == SUCCESS
    assert config.active


@pytest.mark.parametrize("types", [16, 31, 2**31])
def test_types_that_do_not_exist_are_invalid(types: int) -> None:
    config = HashConfig()
    config.set_algorithm(TOEPLITZ)
    assert config.set_types(types) == INVALID_PARAMETER
    assert config.types == 0


def test_without_types_hashing_is_off() -> None:
    config = HashConfig()
    config.set_algorithm(TOEPLITZ)
    assert config.set_types(0) == SUCCESS
    assert not config.active


def test_a_new_key_leaves_nothing_of_the_one_before() -> None:
    config = HashConfig()
    assert config.set_key(KEY) == SUCCESS
    assert config.set_key(b"\x01\x02") == SUCCESS
    assert config.key == b"\x01\x02" + bytes(38)
    assert config.set_key(b"") == SUCCESS
    assert config.key == bytes(40)


def test_a_key_of_41_bytes_is_invalid() -> None:
    config = HashConfig()
    config.set_key(KEY)
    assert config.set_key(KEY + b"\0") == INVALID_PARAMETER
    assert config.key == KEY


@pytest.mark.parametrize("size", [0, 1, 3, 127, 128])
def test_a_mapping_of_any_size_up_to_128_starts_as_queue_0(size: int) -> None:
    config = HashConfig()
    config.set_mapping_size(2)
    config.set_mapping(0, [1, 1], 2)
    assert config.set_mapping_size(size) == SUCCESS
    assert config.mapping == [0] * size


@pytest.mark.parametrize("size", [129, 2**31, 2**32 - 1])
def test_a_larger_mapping_is_invalid_and_the_one_there_stays(size: int) -> None:
    config = HashConfig()
    config.set_mapping_size(2)
    config.set_mapping(0, [1, 1], 2)
    assert config.set_mapping_size(size) == INVALID_PARAMETER
    assert config.mapping == [1, 1]


def test_a_part_of_the_mapping_leaves_the_rest() -> None:
    config = HashConfig()
    config.set_mapping_size(4)
    assert config.set_mapping(1, [3, 2], 4) == SUCCESS
    assert config.mapping == [0, 3, 2, 0]


def test_one_entry_that_is_no_queue_refuses_all() -> None:
    config = HashConfig()
    config.set_mapping_size(4)
    assert config.set_mapping(0, [1, 1, 2, 1], 2) == INVALID_PARAMETER
    assert config.mapping == [0, 0, 0, 0]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, MAX_MAPPING_SIZE),
    st.integers(0, 2**32 - 1) | st.integers(0, 130) | st.integers(2**32 - 130, 2**32 - 1),
    st.integers(0, 2**32 - 1) | st.integers(0, 130) | st.integers(2**32 - 130, 2**32 - 1),
)
def test_xsa_270_a_range_is_covered_only_as_integers(size: int, offset: int, count: int) -> None:
    config = HashConfig()
    config.set_mapping_size(size)
    # Slow but surely right, as far as the table reaches.
    inside = offset <= size and all(
        offset + i < size for i in range(min(count, MAX_MAPPING_SIZE + 1))
    )
    assert config.covers(offset, count) == inside


def test_listeners_are_called_for_changes_and_for_nothing_else() -> None:
    changes: list[int] = []
    config = HashConfig(lambda: changes.append(config.algorithm))
    config.set_algorithm(TOEPLITZ)
    config.set_algorithm(7)
    config.set_types(99)
    assert changes == [TOEPLITZ]
    config.reset()
    assert changes[-1] == NONE


def test_reset_forgets_everything() -> None:
    config = HashConfig()
    config.set_algorithm(TOEPLITZ)
    config.set_types(3)
    config.set_key(KEY)
    config.set_mapping_size(8)
    config.reset()
    assert state(config) == (NONE, 0, bytes(40), [])
