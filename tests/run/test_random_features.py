"""Any features at both ends, any frames: all arrive as they were sent, and nothing is left."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.cli import main

OPTIONS = st.fixed_dictionaries(
    {
        "--queues": st.sampled_from(["1", "2", "8"]),
        "--frontend": st.sampled_from(["linux", "freebsd", "windows"]),
        "--evtchn": st.sampled_from(["2l", "fifo"]),
        "--grant-version": st.sampled_from(["1", "2"]),
    }
)
FLAGS = st.sets(st.sampled_from(["--no-sg", "--no-gso", "--no-csum", "--single-channel"]))


def frames(largest: int) -> st.SearchStrategy[str]:
    plain = st.builds("gen:{}x{}".format, st.integers(60, 4096), st.integers(1, 300))
    scheme = st.sampled_from(["tcp", "tcp6"])
    tcp = st.builds("{}:{}x{}".format, scheme, st.integers(100, largest), st.integers(1, 40))
    return plain | tcp


@settings(max_examples=25, deadline=None)
@given(OPTIONS, FLAGS, frames(65535), frames(65535))
def test_whatever_was_negotiated_every_frame_arrives(
    options: dict[str, str], flags: set[str], guest: str, host: str
) -> None:
    words = [word for pair in options.items() for word in pair]
    args = ["run", "--quiet", "--guest", guest, "--host", host, *words, *sorted(flags)]
    assert main(args) == 0, args


@settings(max_examples=10, deadline=None)
@given(OPTIONS, st.integers(2, 6), st.integers(60, 4096))
def test_guests_on_a_switch_hear_each_other_whatever_they_negotiated(
    options: dict[str, str], guests: int, size: int
) -> None:
    words = [word for pair in options.items() for word in pair]
    args = ["--guests", str(guests), "--switch", "--guest", f"gen:{size}x50", *words]
    assert main(["run", "--quiet", *args]) == 0, args
