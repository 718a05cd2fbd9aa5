"""repr() of what a user meets on the way from a host or a link: one line that says what it is."""

from __future__ import annotations

import types
from collections.abc import Iterator

import pytest

from xennet import Host, PagePoller, VifLink, XnbPoller, open_port
from xennet.trace import Trace, recording

FUNCTIONS = (types.MethodType, types.FunctionType, types.BuiltinFunctionType, type)
#: Attributes of attributes of attributes ... of the object a user begins with.
DEPTH = 6


def members(value: object) -> Iterator[tuple[str, object]]:
    """The public attributes of an object, or the first items of a collection."""
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", item) for key, item in list(value.items())[:3])
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{i}]", item) for i, item in enumerate(list(value)[:3]))
    elif type(value).__module__.startswith("xennet"):
        for name in dir(value):
            if not name.startswith("_"):
                try:
                    yield f".{name}", getattr(value, name)
                except Exception:  # what is not connected has no queue, say
                    continue


def reachable(root: object, name: str) -> Iterator[tuple[str, object]]:
    """Every object of xennet's within DEPTH public attributes of ``root``, each once."""
    seen: dict[int, object] = {}
    ways = [(name, root)]
    for _ in range(DEPTH):
        further: list[tuple[str, object]] = []
        for way, value in ways:
            if id(value) in seen or isinstance(value, FUNCTIONS):
                continue
            seen[id(value)] = value
            if type(value).__module__.startswith("xennet"):
                yield way, value
            further += ((way + step, member) for step, member in members(value))
        ways = further


def unclear(root: object, name: str) -> dict[str, str]:
    """Where repr() says no more than an address, or more than one line."""
    shown = {way: repr(value) for way, value in reachable(root, name)}
    assert len(shown) > 1
    return {way: text for way, text in shown.items() if " object at 0x" in text or "\n" in text}


@pytest.fixture
def link() -> Iterator[VifLink]:
    link = VifLink(open_port("gen:60x2"), open_port("echo:"))
    link.open()
    link.carry()
    yield link
    link.destroy()


def test_everything_on_the_way_from_a_link_says_what_it_is(link: VifLink) -> None:
    assert not unclear(link, "link")


def test_everything_on_the_way_from_a_host_says_what_it_is() -> None:
    host = Host()
    assert not unclear(host, "host")
    host.destroy()


def test_a_repr_still_works_when_the_machine_is_gone(link: VifLink) -> None:
    met = list(reachable(link, "link"))
    link.close()
    link.destroy()
    assert all(repr(value) for _, value in met)
    assert all(getattr(value, "_repr_html_", lambda: "-")() for _, value in met)


def test_a_repr_is_no_access_that_a_recording_holds() -> None:
    trace = Trace()
    with recording() as recorder:
        link = VifLink(open_port("gen:60x2"), open_port("null:"))
        recorder.sink(trace.events.append)
        recorder.attach(link.machine)
        link.open()
        link.carry()
        met = list(reachable(link, "link"))  # whose properties read shared memory
        before = len(trace)
        for _, value in met:
            repr(value)
            getattr(value, "_repr_html_", str)()
        later = Trace(events=trace.events[before:])
    assert not later.of_kind("load", "store", "update").events
    link.destroy()


def test_pollers_say_what_their_last_pass_found() -> None:
    assert repr(PagePoller()) == "<PagePoller 0 packets, 0 errors>"
    assert repr(XnbPoller()) == "<XnbPoller 0 packets, 0 defects struck>"
