"""XS_CONTROL, and the types that only newer servers know."""

from __future__ import annotations

from pathlib import Path

import pytest
from wire_talk import Talk

from xennet.xenstore import Store
from xennet.xenstore.handlers import Server


def test_help_lists_the_commands(dom0: Talk) -> None:
    assert dom0.ask("CONTROL", b"help\0") == (
        b"check\t\nlog\ton|off\n"
        b"live-update\t[-c <cmdline>] [-F] [-t <timeout>] <file>\n"
        b"    Default timeout is 60 seconds.\n"
        b"logfile\t<file>\nmemreport\t[<file>]\nprint\t<string>\n"
        b"quota\t[set <name> <val>|<domid>]\nquota-soft\t[set <name> <val>]\nhelp\t\n\0"
    )


@pytest.mark.parametrize(
    ("payload", "reply"),
    [
        (b"check\0", b"OK\0"),
        (b"check\0x\0", b"!EINVAL"),
        (b"check", b"!EINVAL"),
        (b"", b"!EINVAL"),
        (b"\0", b"!EINVAL"),
        (b"nonsense\0", b"!EINVAL"),
        (b"help\0me\0", b"!EINVAL"),
        (b"print\0", b"!EINVAL"),
        (b"print\0a\0b\0", b"!EINVAL"),
        (b"print\0a\0b", b"OK\0"),
        (b"log\0on\0", b"OK\0"),
        (b"log\0off\0", b"OK\0"),
        (b"log\0", b"!EINVAL"),
        (b"log\0maybe\0", b"!EINVAL"),
        (b"logfile\0", b"!EINVAL"),
        (b"memreport\0", b"!EINVAL"),
        (b"memreport\0/none/none\0", b"!EINVAL"),
        (b"live-update\0", b"!EINVAL"),
        (b"live-update\0-a\0", b"No live-update session active.\0"),
        (b"live-update\0-s\0", b"Not in live-update session.\0"),
        (b"live-update\0file\0", b"!ENOSYS"),
        (b"quota\0set\0nodes\0", b"!EINVAL"),
        (b"quota\0set\0nodes\0abc\0", b"!EINVAL"),
        (b"quota\0set\0nodes\x000\0", b"!EINVAL"),
        (b"quota\0set\0none\x001\0", b"!EINVAL"),
        (b"quota\x0099\0", b"!ENOENT"),
        (b"quota-soft\0", b"Quota settings:\nmemory           :  2097152 "
         b"Total Xenstore memory per domain (warning level)\n\0"),
    ],
)  # fmt: skip
def test_command_is_answered_like_the_c_daemon(dom0: Talk, payload: bytes, reply: bytes) -> None:
    assert dom0.ask("CONTROL", payload) == reply


def test_print_goes_where_the_server_says(store: Store) -> None:
    said: list[str] = []
    Talk(Server(store, say=said.append)).ask("CONTROL", b"print\0hello\0")
    assert said == ["control: hello"]


def test_usage_of_the_fresh_store_is_what_the_c_daemon_counts() -> None:
    assert Talk(Server(Store())).ask("CONTROL", b"quota\x000\0") == (
        b"Domain 0:\nnodes           :        3\nwatches         :        0\n"
        b"transactions    :        0\noutstanding     :        0\nmemory          :      132\n\0"
    )


def test_quota_set_is_shown_and_obeyed_by_open_connections(dom0: Talk, dom5: Talk) -> None:
    assert dom0.ask("CONTROL", b"quota\0set\0nodes\x003\0") == b"OK\0"
    shown = dom0.ask("CONTROL", b"quota\0")
    assert b"nodes            :        3 Nodes per domain\n" in shown
    assert [dom5.ask("MKDIR", b"n%d\0" % i) for i in range(3)] == [b"OK\0", b"OK\0", b"!ENOSPC"]


def test_trace_is_written_while_the_log_is_on(dom0: Talk, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    assert dom0.ask("CONTROL", b"logfile\0%s\0" % bytes(trace)) == b"OK\0"
    assert dom0.ask("CONTROL", b"log\0on\0") == b"OK\0"
    dom0.ask("READ", b"/none\0")
    dom0.ask("CONTROL", b"memreport\0")
    dom0.ask("CONTROL", b"log\0off\0")
    dom0.ask("WRITE", b"/later\0")
    text = trace.read_text()
    assert "READ tx=0 '/none' b'' ENOENT" in text
    assert "later" not in text
    assert "domid    nodes" in text


def test_trace_leaves_another_observer_alone(dom0: Talk, store: Store, tmp_path: Path) -> None:
    seen = []
    store.observer = seen.append
    dom0.ask("CONTROL", b"logfile\0%s\0" % bytes(tmp_path / "trace"))
    for request in (b"log\0on\0", b"log\0on\0", b"log\0off\0"):
        dom0.ask("CONTROL", request)
        dom0.ask("READ", b"/\0")
    assert [op.op for op in seen] == ["READ"] * 3


def test_memreport_counts_by_domain(dom0: Talk, dom5: Talk, tmp_path: Path) -> None:
    dom5.ask("MKDIR", b"x\0")
    dom5.ask("TRANSACTION_START", b"\0")
    report = tmp_path / "report"
    assert dom0.ask("CONTROL", b"memreport\0%s\0" % bytes(report)) == b"OK\0"
    lines = [line.split()[:4] for line in report.read_text().splitlines()[1:]]
    assert ["5", "2", "0", "1"] in lines


# -- newer servers -----------------------------------------------------------------------------


@pytest.fixture
def newer(store: Store) -> Server:
    return Server(store, newer=True, features=3)


@pytest.mark.parametrize(
    ("kind", "payload", "reply"),
    [
        ("GET_FEATURE", b"", b"3\0"),
        ("GET_FEATURE", b"\0", b"3\0"),
        ("GET_FEATURE", b"5\0", b"3\0"),
        ("GET_FEATURE", b"99\0", b"!ENOENT"),
        ("GET_FEATURE", b"5\0006\0", b"!EINVAL"),
        ("GET_FEATURE", b"x\0", b"!EINVAL"),
        ("GET_FEATURE", b"65536\0", b"!EINVAL"),
        ("SET_FEATURE", b"5\0001\0", b"!EBUSY"),
        ("SET_FEATURE", b"7\0004\0", b"!EINVAL"),
        ("SET_FEATURE", b"99\0001\0", b"!ENOENT"),
        ("SET_FEATURE", b"7\0", b"!EINVAL"),
        (
            "GET_QUOTA",
            b"",
            b"nodes watches outstanding memory soft-memory transactions transaction-nodes "
            b"node-permissions path-max node-size\0",
        ),
        ("GET_QUOTA", b"watches\0", b"128\0"),
        ("GET_QUOTA", b"5\0watches\0", b"128\0"),
        ("GET_QUOTA", b"99\0watches\0", b"!ENOENT"),
        ("GET_QUOTA", b"none\0", b"!EINVAL"),
        ("GET_QUOTA", b"5\0watches\0x\0", b"!EINVAL"),
        ("SET_QUOTA", b"none\0001\0", b"!EINVAL"),
        ("SET_QUOTA", b"nodes\0x\0", b"!EINVAL"),
        ("SET_QUOTA", b"nodes\0", b"!EINVAL"),
        ("SET_QUOTA", b"99\0nodes\0001\0", b"!ENOENT"),
    ],
)
def test_newer_message_is_answered(newer: Server, kind: str, payload: bytes, reply: bytes) -> None:
    assert Talk(newer).ask(kind, payload) == reply


def test_guest_may_ask_for_the_servers_features_only(newer: Server) -> None:
    guest = Talk(newer, 5)
    assert guest.ask("GET_FEATURE") == b"3\0"
    assert guest.ask("GET_FEATURE", b"5\0") == b"!EACCES"
    for kind in ("SET_FEATURE", "GET_QUOTA", "SET_QUOTA"):
        assert guest.ask(kind) == b"!EACCES"


def test_features_are_set_before_a_domain_is_introduced_and_die_with_it(newer: Server) -> None:
    dom0 = Talk(newer)
    assert dom0.ask("SET_FEATURE", b"7\0001\0") == b"OK\0"
    assert dom0.ask("GET_FEATURE", b"7\0") == b"1\0"
    dom0.ask("INTRODUCE", b"7\0001\0009\0")
    newer.store.domain_died(7)
    newer.store.domain_created(7)
    assert dom0.ask("GET_FEATURE", b"7\0") == b"3\0"


def test_quota_of_one_domain_leaves_the_others_alone(newer: Server) -> None:
    dom0, dom5 = Talk(newer), Talk(newer, 5)
    assert dom0.ask("SET_QUOTA", b"5\0nodes\0001\0") == b"OK\0"
    assert dom5.ask("MKDIR", b"x\0") == b"!ENOSPC"
    assert Talk(newer, 6).ask("MKDIR", b"x\0") == b"OK\0"
    assert dom0.ask("GET_QUOTA", b"nodes\0") == b"1000\0"
    assert dom0.ask("SET_QUOTA", b"5\0nodes\0000\0") == b"OK\0"
    assert dom0.ask("GET_QUOTA", b"5\0nodes\0") == b"0\0"
    assert dom5.ask("MKDIR", b"x\0") == b"OK\0"
