"""The text of a store, read back, and what it tells about the vifs in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennet.dumps.store_dump import DumpedStore, DumpError, read_store_dump
from xennet.lifecycle.why_store import vifs_of, why_store
from xennet.xenbus.paths import VifDirectories
from xennet.xenstore import XsError
from xennet.xenstore.value_text import show_value

STORES = Path(__file__).parents[1] / "data" / "stores"
BE = "/local/domain/0/backend/vif/1/0"
FE = "/local/domain/1/device/vif/0"

Lines = list[str]


def dump(name: str) -> Lines:
    return (STORES / name).read_text().splitlines()


def set_to(lines: Lines, path: str, value: str | None) -> Lines:
    """The dump with another value of a node, or without the node."""
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{path} = "))
    changed = [re.sub('".*"', f'"{value}"', lines[at])] if value is not None else []
    return [*lines[:at], *changed, *lines[at + 1 :]]


def read(lines: Lines) -> DumpedStore:
    return read_store_dump(line.encode() for line in lines)


def reasons(lines: Lines) -> list[str]:
    store = read(lines)
    (paths,) = vifs_of(store)
    return why_store(VifDirectories(paths, store), store.may_read)


def test_nothing_is_in_the_way_of_a_vif_that_was_connected() -> None:
    assert reasons(dump("connected.txt")) == []


def test_an_unbound_driver_leaves_both_ends_closed() -> None:
    assert reasons(dump("guest-unbound.txt")) == [
        f"the frontend is not Connected: {FE}/state = Closed (6)",
        f"the backend is not Connected: {BE}/state = Closed (6)",
        "both ends have closed: it starts anew when a driver of the guest shows Initialising (1)",
    ]


def test_a_missing_hotplug_status_is_named_as_what_the_backend_waits_for() -> None:
    # Field: network-attach after unbind and bind of the backend sticks at 2 and 4 without udev.
    stuck = set_to(dump("connected.txt"), f"{BE}/state", "2")
    assert reasons(set_to(stuck, f"{BE}/hotplug-status", None)) == [
        f"the backend is not Connected: {BE}/state = InitWait (2)",
        f"no hotplug script was run, or it gave no answer: {BE}/hotplug-status does not exist",
        "it is the hotplug script's turn: the backend has all that it needs of the frontend, and "
        f'shows Connected when {BE}/hotplug-status is "connected"; it is "(none)"',
    ]


Change = tuple[str, str | None, str]


@pytest.mark.parametrize(
    "change",
    [
        (f"{FE}/tx-ring-ref", None, f"keys are not complete: {FE}/tx-ring-ref"),
        (f"{FE}/event-channel-tx", "9x!", ""),
        (f"{BE}/feature-rx-copy", "0", f'needs that: {BE}/feature-rx-copy = "0"'),
        (f"{FE}/request-rx-copy", None, f'refuses that: {FE}/request-rx-copy = "(none)"'),
        (f"{FE}/multi-queue-num-queues", "3", "the frontend wants 3 queues, the backend has up to"),
        (f"{FE}/backend", "/local/domain/0/backend/vif/1/1", f'{FE}/backend = "/local'),
        (f"{BE}/frontend-id", "2", f'{BE}/frontend-id = "2", and it should be "1"'),
        (f"{BE}/online", "0", f'taking the vif away: {BE}/online = "0"'),
        (f"{BE}/hotplug-status", "error", f'has failed: {BE}/hotplug-status = "error"'),
        (f"{FE}/state", "1", "it is the backend's turn, which sees a frontend Initialising (1)"),
        (f"{BE}/state", "5", "it is the frontend's turn, which sees a backend Closing (5)"),
        (f"{FE}/state", "3", "the backend does nothing about Initialised (3)"),
        (f"{FE}/state", "9", "the backend fails at 9 (not a XenbusState)"),
    ],
    ids=lambda change: f"{change[0].rpartition('/')[2]}={change[1]}",
)
def test_a_node_in_the_way_is_named_with_its_value(change: Change) -> None:
    path, value, told = change
    found = reasons(set_to(dump("connected.txt"), path, value))
    if told:
        assert any(told in reason for reason in found), found
    else:  # "%u" reads the number in front
        assert found == []


def test_a_state_that_the_other_end_may_not_read_is_named() -> None:
    lines = [
        line.replace("(n0,r1)", "(n0)") if line.startswith(f"{BE}/state") else line
        for line in dump("connected.txt")
    ]
    assert reasons(lines) == [f"domain 1, at the other end, may not read {BE}/state"]


def test_without_permissions_nothing_is_said_about_them() -> None:
    lines = [line.partition("   (")[0] for line in dump("connected.txt")]
    assert reasons(lines) == []


def test_a_vif_of_which_one_end_is_left_is_found() -> None:
    lines = [line for line in dump("connected.txt") if not line.startswith(BE)]
    assert f"the backend's directory {BE} does not exist" in reasons(lines)


def test_a_domain_that_is_no_number_is_passed_over() -> None:
    # Field: vif-bridge of Xen 4.17 takes the `vifname` of a vif for a domain, and writes its MTU.
    lines = [*dump("connected.txt"), '/local/domain/web0/device/vif/web0/mtu = "9000"   (n0)']
    assert reasons(lines) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("not a dump", "line 2 is none that xenstore-ls -fp prints"),
        (' state = "4"', "line 2 is none that xenstore-ls -fp prints"),
        ('/a = "b\\..."', "line 2: the value of /a was cut"),
        ('/a = "b"   (n)', "line 2: 'n' is no permission"),
    ],
)
def test_a_line_that_is_none_of_a_dump_is_named(line: str, told: str) -> None:
    with pytest.raises(DumpError, match=re.escape(told)):
        read(['/tool = ""   (n0)', line])


def test_a_node_that_the_tool_could_not_read_is_refused_as_such() -> None:
    with pytest.raises(XsError, match="EACCES"):
        read(["/secret:"]).read("/secret")


@given(st.binary(max_size=60))
def test_any_value_is_read_back(value: bytes) -> None:
    shown = f'/a/b = "{show_value(value)}"   (n0,r1)'
    if shown.encode().partition(b'"   (')[0].endswith(b"\\..."):
        return  # such a value cannot be told from one that was cut
    assert read([shown]).read("/a/b") == value


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_no_text_does_worse_than_name_its_line(lines: list[bytes]) -> None:
    try:
        store = read_store_dump(lines)
    except DumpError:
        return
    for paths in vifs_of(store):
        why_store(VifDirectories(paths, store), store.may_read)
