"""XS_CONTROL, and the types that only newer servers know."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from full_disk import files_up_to
from wire_talk import Talk, message

from xennet.xenstore import Store
from xennet.xenstore.handlers import Server

HELP = {
    "4.17": b"check\t\nlog\ton|off\n"
    b"live-update\t[-c <cmdline>] [-F] [-t <timeout>] <file>\n"
    b"    Default timeout is 60 seconds.\n"
    b"logfile\t<file>\nmemreport\t[<file>]\nprint\t<string>\n"
    b"quota\t[set <name> <val>|<domid>]\nquota-soft\t[set <name> <val>]\nhelp\t\n\0",
    "4.20": b"check           \nlog             [on|off|+<switch>|-<switch>]\n"
    b"live-update     [-c <cmdline>] [-F] [-t <timeout>] <file>\n"
    b"    Default timeout is 60 seconds.\n"
    b"logfile         <file>\nmemreport       [<file>]\nprint           <string>\n"
    b"quota           [set <name> <val>|<domid>|max [-r]]\n"
    b"quota-soft      [set <name> <val>]\nhelp            \n\0",
}


@pytest.mark.parametrize("like", HELP)
def test_help_lists_the_commands(dom0: Talk, like: str) -> None:
    assert dom0.ask("CONTROL", b"help\0") == HELP[like]


QUOTA = {
    "4.17": b"Quota settings:\nnodes            :     1000 Nodes per domain\n"
    b"watches          :      128 Watches per domain\n"
    b"transactions     :       10 Transactions per domain\n"
    b"outstanding      :       20 Outstanding requests per domain\n"
    b"transaction-nodes:     1024 Max. number of accessed nodes per transaction\n"
    b"memory           :  2621440 Total Xenstore memory per domain (error level)\n"
    b"node-size        :     2048 Max. size of a node\n"
    b"path-max         :     2048 Max. length of a node path\n"
    b"permissions      :        5 Max. number of permissions per node\n\0",
    "4.20": b"Quota settings:\nnodes            :     1000 Nodes per domain\n"
    b"watches          :      128 Watches per domain\n"
    b"outstanding      :       20 Outstanding requests per domain\n"
    b"memory           :  2621440 Total Xenstore memory per domain (error level)\n"
    b"transactions     :       10 Active transactions per domain\n"
    b"transaction-nodes:     1024 Max. number of accessed nodes per transaction\n"
    b"node-permissions :        5 Max. number of permissions per node\n"
    b"path-max         :     2048 Max. length of a node path\n"
    b"node-size        :     2048 Max. size of a node\n\0",
}


@pytest.mark.parametrize("like", QUOTA)
def test_quota_lists_the_limits(dom0: Talk, like: str) -> None:
    assert dom0.ask("CONTROL", b"quota\0") == QUOTA[like]


@pytest.mark.parametrize(
    ("like", "known", "unknown"),
    [
        ("4.17", b"permissions", b"node-permissions"),
        ("4.20", b"node-permissions", b"permissions"),
    ],
)
def test_quota_of_permissions_has_another_name_since_4_20(
    dom0: Talk, dom5: Talk, known: bytes, unknown: bytes
) -> None:
    assert dom0.ask("CONTROL", b"quota\0set\0%s\0001\0" % unknown) == b"!EINVAL"
    assert dom0.ask("CONTROL", b"quota\0set\0%s\0001\0" % known) == b"OK\0"
    assert dom5.ask("SET_PERMS", b"/local/domain/5\0n5\0r0\0") == b"!ENOSPC"


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
        (b"log\0maybe\0", b"!EINVAL"),
        (b"log\0on\0on\0", b"!EINVAL"),
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
@pytest.mark.parametrize("like", ["4.17", "4.20"])
def test_command_is_answered_like_the_c_daemon(dom0: Talk, payload: bytes, reply: bytes) -> None:
    assert dom0.ask("CONTROL", payload) == reply


SWITCHES = (
    b"Log switch settings:\nobj     : on\nio      : on\nwrl     : %s\n"
    b"acc     : off\ntdb     : off\n\0"
)


def test_log_switches_are_listed_and_turned(dom0: Talk) -> None:
    assert dom0.ask("CONTROL", b"log\0") == SWITCHES % b"off"
    assert dom0.ask("CONTROL", b"log\0+wrl\0") == b"OK\0"
    assert dom0.ask("CONTROL", b"log\0") == SWITCHES % b"on"
    assert dom0.ask("CONTROL", b"log\0-wrl\0") == b"OK\0"
    for bad in (b"+", b"-", b"+x", b"wrl", b"+wrl\0+io", b"+all"):
        assert dom0.ask("CONTROL", b"log\0%s\0" % bad) == b"!EINVAL"
    assert dom0.ask("CONTROL", b"log\0") == SWITCHES % b"off"


@pytest.mark.parametrize("like", ["4.17"])
def test_log_had_no_switches_in_4_17(dom0: Talk) -> None:
    for words in (b"log\0", b"log\0+io\0"):
        assert dom0.ask("CONTROL", words) == b"!EINVAL"


def test_trace_leaves_requests_out_while_their_switch_is_off(dom0: Talk, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for words in (b"logfile\0%s\0" % bytes(trace), b"log\0on\0", b"log\0-io\0"):
        dom0.ask("CONTROL", words)
    dom0.ask("READ", b"/silent\0")
    dom0.ask("CONTROL", b"log\0+io\0")
    dom0.ask("READ", b"/told\0")
    dom0.ask("CONTROL", b"log\0off\0")
    assert "told" in trace.read_text()
    assert "silent" not in trace.read_text()


def test_print_goes_where_the_server_says(store: Store) -> None:
    said: list[str] = []
    Talk(Server(store, say=said.append)).ask("CONTROL", b"print\0hello\0")
    assert said == ["control: hello"]


USED = {
    "4.17": b"Domain 0:\nnodes           :        3\nwatches         :        0\n"
    b"transactions    :        0\noutstanding     :        0\nmemory          :      132\n\0",
    "4.20": b"Domain 0:\nnodes            :        5 (max        5)\n"
    b"watches          :        0 (max        0)\noutstanding      :        0 (max        0)\n"
    b"memory           :      186 (max      186)\ntransactions     :        0 (max        0)\n"
    b"transaction-nodes:        0 (max        0)\nnode-permissions :        0 (max        0)\n"
    b"path-max         :        0 (max        0)\nnode-size        :        0 (max        0)\n\0",
}


@pytest.mark.parametrize("like", USED)
def test_usage_of_the_fresh_store_is_what_the_c_daemon_counts(like: str) -> None:
    assert Talk(Server(Store(like=like))).ask("CONTROL", b"quota\x000\0") == USED[like]


def used(talk: Talk, *words: bytes) -> dict[str, tuple[int, ...]]:
    text = talk.ask("CONTROL", b"".join(word + b"\0" for word in (b"quota", *words))).decode()
    return {
        line.split()[0].rstrip(":"): tuple(map(int, re.findall(r"[0-9]+", line.split(":")[1])))
        for line in text.splitlines()[1:]
        if ":" in line
    }


def test_usage_of_a_guest_tells_the_most_it_ever_had(dom0: Talk, dom5: Talk) -> None:
    for name in (b"a", b"b"):
        dom5.ask("WRITE", name + b"\0" + b"v" * 100)
    dom5.ask("SET_PERMS", b"a\0n5\0r0\0r6\0")
    dom5.ask("RM", b"b\0")
    dom5.names(message("WATCH", b"a\0t\0"))
    dom5.ask("UNWATCH", b"a\0t\0")
    dom5.ask("TRANSACTION_START", b"\0")
    dom5.ask("READ", b"a\0", tx=1)
    dom5.ask("READ", b"long-name\0", tx=1)
    told = used(dom0, b"5")
    home, file = 16 + 8 + 15 + len("a\0"), 16 + 24 + 100 + 17
    now, most = told.pop("memory")
    assert now == home + file < most
    assert told == {
        "nodes": (2, 3),
        "watches": (0, 1),
        "outstanding": (0, 1),
        "transactions": (1, 1),
        "transaction-nodes": (0, 3),  # a, long-name, and the home directory
        "node-permissions": (0, 3),
        "path-max": (0, 9),
        "node-size": (0, 16 + 24 + 100),
    }


def test_refused_requests_do_not_count_as_the_most_a_guest_had(dom0: Talk, dom5: Talk) -> None:
    dom5.ask("WRITE", b"a\0" + b"v" * 3000)
    dom5.ask("SET_PERMS", b"/local/domain/5\0" + b"n5\0" * 6)
    dom5.ask("READ", b"p" * 2049 + b"\0")
    told = used(dom0, b"5")
    assert told["node-size"] == told["node-permissions"] == (0, 0)
    assert told["path-max"] == (0, 1)


def test_usage_is_told_of_a_domain_that_owns_a_node_and_is_not_introduced(
    store: Store, dom0: Talk
) -> None:
    store.domain_created(9)
    assert dom0.ask("CONTROL", b"quota\x009\0") == b"!ENOENT"
    dom0.ask("SET_PERMS", b"/local/domain/5\0n9\0")
    assert used(dom0, b"9")["nodes"] == (1, 1)


def test_quota_max_is_the_most_of_all_guests_until_it_is_reset(dom0: Talk, dom5: Talk) -> None:
    dom0.ask("WRITE", b"/of/domain/0/" + b"x" * 100 + b"\0")
    for name in (b"a", b"b", b"c"):
        dom5.ask("MKDIR", name + b"\0")
    dom5.ask("RM", b"c\0")
    assert used(dom0, b"max")["nodes"] == (4,)
    assert used(dom0, b"max", b"-x") == {}
    assert used(dom0, b"max")["path-max"] == (1,)
    assert set(used(dom0, b"max", b"-r").values()) == {(0,)}
    assert used(dom0, b"5")["nodes"] == (3, 3)
    assert used(dom0, b"max")["nodes"] == (0,)
    dom5.ask("MKDIR", b"d\0")
    assert used(dom0, b"max")["nodes"] == (4,)


@pytest.mark.parametrize(
    ("op", "payload", "nodes"),
    [("RM", b"b\0", 2), ("WRITE", b"a\0", 0), ("WRITE", b"a\0w", 0), ("WRITE", b"a\0ww", 0)],
)
def test_behind_a_reset_quota_max_counts_what_a_change_leaves_also_of_one_to_less(
    dom0: Talk, dom5: Talk, op: str, payload: bytes, nodes: int
) -> None:
    dom5.ask("WRITE", b"a\0v")
    dom5.ask("MKDIR", b"b\0")
    used(dom0, b"max", b"-r")
    dom5.ask(op, payload)
    told = used(dom0, b"max")
    assert told["nodes"] == (nodes,)
    assert told["memory"] == used(dom0, b"5")["memory"][:1]


def test_what_a_dead_guest_had_stays_with_quota_max_only(
    store: Store, dom0: Talk, dom5: Talk
) -> None:
    dom5.ask("MKDIR", b"a\0")
    store.domain_died(5)
    store.introduce(5)
    assert used(dom0, b"5")["nodes"] == (0, 0)
    assert used(dom0, b"max")["nodes"] == (2,)


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


def test_trace_file_that_takes_no_more_is_left_with_whole_lines_and_told_once(
    store: Store, tmp_path: Path
) -> None:
    trace, said = tmp_path / "trace", list[str]()
    server = Server(store, say=said.append, trace_file=str(trace))
    server.trace.on()
    client = Talk(server)
    with files_up_to(80):
        for name in (b"/one\0", b"/two\0", b"/three\0", b"/four\0"):
            assert client.ask("WRITE", name) == b"OK\0"
        assert client.ask("CONTROL", b"memreport\0") == b"!EINVAL"
    told = f"{trace}: File too large; nothing more is written there"
    assert (said, client.ask("READ", b"/four\0")) == ([told], b"")
    assert [line.split()[3] for line in trace.read_text().splitlines()] == ["'/one'", "'/two'"]


@pytest.mark.parametrize("command", [b"log\0on\0", b"memreport\0%s\0"])
def test_pipe_that_nobody_reads_is_refused_and_not_waited_for(
    store: Store, tmp_path: Path, command: bytes
) -> None:
    pipe, said = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    client = Talk(Server(store, say=said.append))
    assert client.ask("CONTROL", b"logfile\0%s\0" % bytes(pipe)) == b"OK\0"
    words = command % bytes(pipe) if b"%s" in command else command
    assert client.ask("CONTROL", words) == b"!EINVAL"
    (told,) = said
    assert told.startswith(f"{pipe}: cannot be ")
    assert told.endswith(": is a pipe that nobody reads")
    assert client.ask("READ", b"/\0") == b""


def test_pipe_whose_reader_is_slow_takes_what_fits_and_is_not_waited_for(
    store: Store, tmp_path: Path
) -> None:
    pipe, said = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    client = Talk(Server(store, say=said.append, trace_file=str(pipe)))
    assert client.ask("CONTROL", b"log\0on\0") == b"OK\0"
    for _ in range(100):
        assert client.ask("WRITE", b"/long\0" + bytes(2000)) == b"OK\0"
    assert said == [f"{pipe}: Resource temporarily unavailable; nothing more is written there"]
    os.close(reader)


def test_memreport_for_which_the_trace_has_no_room_is_refused(store: Store, tmp_path: Path) -> None:
    server = Server(store, trace_file=str(tmp_path / "trace"))
    server.trace.on()
    client = Talk(server)
    with files_up_to(10):
        assert client.ask("CONTROL", b"memreport\0") == b"!EINVAL"
    assert client.ask("READ", b"/\0") == b""


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
