"""What a report says as JSON and on the screen."""

from __future__ import annotations

import io
import json
import re

import pytest
from attrs import evolve, fields
from hypothesis import given, settings
from hypothesis import strategies as st
from report_helpers import BACK, FRONT, bad_report, good_report
from rich.console import Console

from xennet.abi.xenbus import XenbusState
from xennet.port import Counters
from xennet.run import (
    GUEST_TO_HOST,
    HOST_TO_GUEST,
    THROUGH_SWITCH,
    DefectReport,
    DirectionReport,
    DomainReport,
    InterfaceReport,
    Mismatch,
    PathReport,
    PortReport,
    RingReport,
    RunOptions,
    RunReport,
    SwitchReport,
    TimelineEntry,
    Verdict,
    VifReport,
)
from xennet.run.printable import printable
from xennet.run.progress import counter, no_progress, progress_bar
from xennet.run.render import STATE_STYLES, print_report, print_verdict, render_text
from xennet.run.verdict_text import verdict_text

SWITCH = SwitchReport(
    DirectionReport(THROUGH_SWITCH, 7000, 7000, 420000, 420000), 3, 3, 6998, 2, 1, 0, 0, 5
)
NOTIFICATIONS = {"sent", "avoided"}


def keys(value: object) -> object:
    """The shape of a JSON value: key -> shape, lists by their first element."""
    if isinstance(value, dict):
        return {key: keys(item) for key, item in value.items()}
    return [keys(value[0])] if isinstance(value, list) and value else None


def timeline_only(*entries: TimelineEntry, **roots: str) -> str:
    return render_text(RunReport(Verdict(True), timeline=entries, roots=roots))


# --- JSON -----------------------------------------------------------------------------------------


def test_json_keys_are_those_of_format_1() -> None:
    counters = {
        "frames_in",
        "bytes_in",
        "frames_out",
        "bytes_out",
        "skipped_empty",
        "skipped_runt",
        "truncated",
        "fcs_cut",
        "csum_completed",
        "skipped_linktype",
        "skipped_sections",
        "dropped_unread",
        "refused_headers",
        "refused_by_kernel",
        "refused_oversize",
        "refused_time",
        "faults",
    }
    notifications = dict.fromkeys(NOTIFICATIONS)
    counts = ["requests", "responses", "slots", "lost"]
    work = ["carried", "completed", "segmented", "segments", "refused", "errors"]
    work += ["wrong_checksums", "filtered"]
    path = dict.fromkeys(["sg", "csum", "gso", "max_frame", *work])
    full = evolve(
        good_report(),
        directions=bad_report().directions,
        switch=SWITCH,
        defects=(DefectReport("B4", "torn in two", 7),),
        interfaces=(InterfaceReport("epair0a", "02:00:00:00:00:0a", 1500),),
    )
    assert keys(full.to_json()) == {
        "format": None,
        "verdict": {"good": None, "reasons": [None]},
        "options": dict.fromkeys(field.name for field in fields(RunOptions)),
        "roots": {"frontend": None, "backend": None},
        "timeline": [
            dict.fromkeys(["step", "who", "kind", "path", "value", "old", "new", "time_ns"])
        ],
        "directions": [
            {
                **dict.fromkeys(["name", "frames_sent", "frames_received"]),
                **dict.fromkeys(["bytes_sent", "bytes_received", "mismatches", "filtered"]),
                "evidence": [dict.fromkeys(["frame", "problem", "offset", "sent", "received"])],
            }
        ],
        "vifs": [
            {
                **dict.fromkeys(["name", "queues", "split_channels"]),
                "up": path | {"csum": [None], "gso": [None]},
                "down": path,
            }
        ],
        "switch": {
            "through": {
                **dict.fromkeys(["name", "frames_sent", "frames_received"]),
                **dict.fromkeys(["bytes_sent", "bytes_received", "mismatches", "evidence"]),
                "filtered": None,
            },
            **dict.fromkeys(["ports", "learned", "forwarded", "flooded", "group"]),
            **dict.fromkeys(["filtered", "invalid", "dropped"]),
        },
        "defects": [dict.fromkeys(["row", "what", "packets"])],
        "rings": [
            {
                "name": None,
                **dict.fromkeys(counts),
                "front": notifications,
                "back": notifications,
            }
        ],
        "domains": [
            dict.fromkeys(
                [
                    "name",
                    "grants_made",
                    "grants_held",
                    "grant_copies",
                    "bytes_copied",
                    "mappings",
                    "event_channels",
                    "pages",
                ]
            )
        ],
        "ports": [{"side": None, "spec": None, "counters": dict.fromkeys(counters)}],
        "interfaces": [dict.fromkeys(field.name for field in fields(InterfaceReport))],
        "seconds": None,
        "interrupted": None,
        "frames_per_second": None,
    }


def test_json_survives_json_and_holds_the_numbers() -> None:
    made = good_report().to_json()
    assert json.loads(json.dumps(made)) == made
    assert made["format"] == "xennet-run/1"
    assert made["options"] == {
        "grant_version": 2,
        "link": "vif",
        "evtchn": None,
        "frontend": "linux",
        "backend": "linux",
        "queues": 2,
        "split_channels": True,
        "mtu": None,
        "sg": True,
        "gso": True,
        "csum": True,
        "guests": 1,
        "vifs": 1,
        "switch": False,
        "quota_nodes": None,
        "allow_empty": False,
        "arena": None,
        "seconds": None,
        "live": False,
        "choices": None,
    }
    assert made["vifs"][0]["down"]["segments"] == 4500
    assert made["switch"] is None
    assert made["frames_per_second"] == round(1234568 / 12.5, 1)
    assert made["rings"][0]["front"] == {"sent": 12345, "avoided": 1222222}
    assert made["ports"][0]["counters"]["skipped_empty"] == 3
    assert made["timeline"][8] == {
        "step": 9,
        "who": "dom0",
        "kind": "state",
        "path": f"{BACK}/state",
        "value": "2",
        "old": "Initialising",
        "new": "InitWait",
        "time_ns": 9000,
    }


def test_frames_that_a_disconnect_lost_stand_beside_their_ring() -> None:
    rings = (RingReport("tx", 10, 10, 10, lost=4711), RingReport("rx", 20, 20, 20))
    lines = render_text(RunReport(Verdict(True), rings=rings)).splitlines()
    header = next(line for line in lines if "frames lost" in line)
    row = next(line for line in lines if line.startswith("tx "))
    assert row.split()[-1] == "4,711"
    assert len(row) <= len(header)


def test_an_empty_report_has_all_top_level_keys() -> None:
    assert RunReport(Verdict(True)).to_json().keys() == good_report().to_json().keys()


def test_frames_per_second_is_zero_when_the_time_is_unknown() -> None:
    assert evolve(good_report(), seconds=0.0).frames_per_second == 0


# --- the screen -----------------------------------------------------------------------------------


@pytest.mark.parametrize("report", [good_report(), bad_report()])
def test_plain_text_fits_80_columns_without_escapes_or_padding(report: RunReport) -> None:
    text = render_text(report)
    assert "\x1b" not in text
    for line in text.splitlines():
        assert len(line) <= 80
        assert line == line.rstrip()


SENTENCE = "vif1.0, guest to host: 12 frames did not arrive as they were sent, and " + "so on " * 20


@pytest.mark.parametrize("printer", [print_report, print_verdict])
def test_a_sentence_of_the_verdict_is_one_line_for_who_searches(printer) -> None:  # type: ignore[no-untyped-def]
    one, two = Verdict(False, (SENTENCE,)), Verdict(False, ("a", SENTENCE))
    assert render_text(RunReport(one), printer) == f"BAD: {SENTENCE.rstrip()}\n"
    assert render_text(RunReport(two), printer) == f"BAD\n  a\n  {SENTENCE.rstrip()}\n"


def test_evidence_is_one_line_too() -> None:
    evidence = (Mismatch(17, "bytes differ", 42, "0123456789abcdef" * 8, "00"),)
    directions = (DirectionReport(GUEST_TO_HOST, 1, 1, mismatches=1, evidence=evidence),)
    text = render_text(RunReport(Verdict(False), directions=directions))
    assert f"\n  sent     {'0123456789abcdef' * 8}\n" in text


def test_a_terminal_wraps_sentences() -> None:
    text = io.StringIO()
    console = Console(file=text, width=60, force_terminal=True, color_system=None)
    print_verdict(RunReport(Verdict(False, (SENTENCE,))), console)
    assert max(map(len, text.getvalue().splitlines())) <= 60


@pytest.mark.parametrize(
    ("spec", "lines"),
    [
        (
            "pcap:xennet/data/guest-and-host-tcp.pcap+record:demo-out/back-again.pcapng",
            ["pcap:xennet/data/guest-and-host-tcp.pcap+", "record:demo-out/back-again.pcapng"],
        ),
        (
            "pcap:/srv/captures/2024-03-17/of-the-second-machine/a-rather-long-name.pcapng",
            ["pcap:/srv/captures/2024-03-17/", "of-the-second-machine/a-rather-long-name.pcapng"],
        ),
    ],
)
def test_a_long_port_name_is_folded_at_a_separator(spec: str, lines: list[str]) -> None:
    text = render_text(RunReport(Verdict(True), ports=(PortReport("guest", spec, Counters()),)))
    shown = text[text.index("\nguest") :].splitlines()[1:3]
    assert [line.split()[-3 if i == 0 else -1] for i, line in enumerate(shown)] == lines


def test_handshake_lines_are_not_folded_at_80_columns() -> None:
    lines = render_text(good_report()).splitlines()
    for line in [
        "   2         toolstack  frontend/backend = /local/domain/0/backend/vif/1/0",
        "   4         toolstack  frontend/state (none) → Initialising",
        '   5         toolstack  backend/hotplug-status = ""',
        "  12  domU1             frontend/rx-ring-ref = 769",
        "  15  domU1             frontend/state Initialising → Connected",
        "  16         dom0       map gref 768 of domU1",
        "  22         toolstack  rm /libxl/1/device/vif/0",
        f"frontend = {FRONT}",
        f"backend = {BACK}",
    ]:
        assert line in lines


def test_a_root_shortens_only_whole_path_elements() -> None:
    text = timeline_only(
        TimelineEntry(1, "dom0", "write", "/a/b/c", "1"),
        TimelineEntry(2, "dom0", "write", "/a/bc", "2"),
        TimelineEntry(3, "dom0", "rm", "/a/b"),
        short="/a/b",
    )
    shown = [line.split("dom0")[1].strip() for line in text.splitlines()[3:6]]
    assert shown == ["short/c = 1", "/a/bc = 2", "rm short"]


@pytest.mark.parametrize("width", [64, 80, 200])
def test_no_value_is_cut_at_any_width(width: int) -> None:
    text = render_text(good_report(), width=width)
    for number in ("1,851,850,500", "1,222,222", "1,224,568", "1,300,001", "1,234,827"):
        assert number in text
    assert "…" not in text
    folded = text[text.index("\nguest  pcap:") + 8 : text.index("\nhost   echo:")]
    column = "".join(line.strip().split("  ")[0] for line in folded.splitlines())
    assert column == good_report().ports[0].spec


def test_markup_and_control_characters_of_a_guest_are_shown_not_obeyed() -> None:
    nasty = "[red]x[/red]:smile:\x1b[2J\r\n\x07\u202e\udc80"
    entry = TimelineEntry(1, "domU1" + nasty, "write", f"{FRONT}/x{nasty}", nasty)
    port = PortReport(nasty, nasty, Counters())
    report = RunReport(
        Verdict(False, (nasty,)), timeline=(entry,), rings=(RingReport(nasty),), ports=(port,)
    )
    text = io.StringIO()
    console = Console(file=text, width=400, force_terminal=True, color_system="truecolor")
    print_report(report, console)
    shown = text.getvalue()
    escapes = re.compile(r"\x1b\[[0-9;]*m")
    plain = escapes.sub("", shown)
    assert not set(plain) & set("\x1b\r\x07\u202e\udc80")
    assert plain.count(r"[red]x[/red]:smile:\x1b[2J\r\n\x07\u202e\udc80") >= 7


def test_states_have_colours_on_a_terminal() -> None:
    text = io.StringIO()
    print_report(good_report(), Console(file=text, force_terminal=True, color_system="standard"))
    assert "\x1b[1;32mConnected\x1b[0m" in text.getvalue()


def test_every_xenbus_state_has_a_style() -> None:
    assert STATE_STYLES.keys() == {state.name for state in XenbusState}


def test_an_unknown_state_is_shown_plainly() -> None:
    assert "state Connected → 99" in timeline_only(
        TimelineEntry(1, "domU1", "state", "state", "99", "Connected", "99")
    )


def test_mismatches_come_with_evidence_and_the_rest_is_counted() -> None:
    text = render_text(bad_report())
    assert (
        "guest to host, frame 17: bytes differ at byte 42\n"
        "  sent     00112233445566778899\n"
        "  received 00112233ff5566778899\n"
        "guest to host, frame 4999: lost\n"
        "guest to host: 1,000 more not shown\n"
    ) in text


def test_what_ports_skipped_is_told() -> None:
    text = render_text(good_report())
    assert "guest: 3 empty skipped, 2 under 14 bytes skipped, 1 cut by snap length" in text
    assert "host: " not in text


def test_the_verdict_is_the_last_word() -> None:
    assert render_text(good_report()).endswith(
        "\n\nGOOD: all 1,234,568 frames arrived as sent, nothing leaked\n"
    )
    bad = "BAD\n  1,002 frames did not arrive as sent\n  domU1 holds 2 grants\n"
    assert render_text(bad_report()).endswith(f"\n\n{bad}")
    assert render_text(bad_report(), print_verdict) == bad


def test_a_report_of_nothing_is_its_verdict() -> None:
    assert render_text(RunReport(Verdict(True))) == "GOOD\n"


@given(
    st.booleans(),
    st.lists(st.text() | st.text(" \t\n\u2028[]/:a", max_size=9), max_size=3),
    st.sampled_from((None, "SIGINT")),
    st.booleans(),
)
def test_the_verdict_in_words_is_the_one_that_is_drawn(
    good: bool, reasons: list[str], interrupted: str | None, live: bool
) -> None:
    options = RunOptions(live=live)
    report = RunReport(Verdict(good, tuple(reasons)), options, interrupted=interrupted)
    assert verdict_text(report) == render_text(report, print_verdict)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters()))
def test_printable_text_is_printable_and_plain_text_is_unchanged(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


# --- progress -------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_silent_where_nobody_looks() -> None:
    stream = io.StringIO()
    with progress_bar({GUEST_TO_HOST: 5}, stream) as progress:
        progress(GUEST_TO_HOST, 5)
    with no_progress() as progress:
        progress(GUEST_TO_HOST, 5)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("total", "shown"), [(5, "3/5"), (None, "3/?")])
def test_progress_shows_each_direction_on_a_terminal(total: int | None, shown: str) -> None:
    stream = Terminal()
    with progress_bar({GUEST_TO_HOST: total}, stream) as progress:
        progress(GUEST_TO_HOST, 3)
    assert GUEST_TO_HOST in stream.getvalue()
    assert shown in stream.getvalue()


def test_a_direction_without_frames_has_no_bar() -> None:
    stream = Terminal()
    with progress_bar({GUEST_TO_HOST: 5, HOST_TO_GUEST: 0}, stream) as progress:
        progress(GUEST_TO_HOST, 3)
        progress(HOST_TO_GUEST, 0)
    assert GUEST_TO_HOST in stream.getvalue()
    assert HOST_TO_GUEST not in stream.getvalue()
    assert "0/0" not in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_line_can_be_told_beside_the_bars(stream: io.StringIO) -> None:
    with progress_bar({GUEST_TO_HOST: 5}, stream) as progress:
        progress(GUEST_TO_HOST, 3)
        progress.tell("XenStore on /tmp/[x]")
        progress(GUEST_TO_HOST, 5)
    assert "XenStore on /tmp/[x]\n" in stream.getvalue()


def test_a_counter_is_shown_on_a_terminal_and_gone_afterwards() -> None:
    for stream, shown in ((io.StringIO(), ""), (Terminal(), "\rrounds 3/10\r            \r")):
        with counter("rounds", 10, stream) as count:
            count(3)
        assert stream.getvalue() == shown


# --- what was negotiated --------------------------------------------------------------------------


def line_with(text: str, start: str) -> list[str]:
    """The cells of the line that begins with ``start``."""
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return re.split(r"  +", line.strip())


def test_negotiated_features_and_software_work_are_shown() -> None:
    text = render_text(good_report())
    assert line_with(text, "vif1.0 ") == [
        *("vif1.0", "up", "2", "split", "yes", "ipv4 ipv6", "tcpv4 tcpv6", "any"),
    ]
    assert line_with(text, " " * 8 + "down") == ["down", "no", "filled in", "no", "1,514"]
    software = text[text.index("Software") :]
    assert line_with(software, "host to guest")[1:] == ["12", "100", "4,500", "0", "0"]


def test_vifs_that_agreed_on_the_same_are_one_row() -> None:
    up = PathReport(sg=True)
    vifs = tuple(VifReport(f"vif{i}.0", 1, False, up, up) for i in range(1, 201))
    other = VifReport("vif201.0", 2, False, up, up)
    text = render_text(RunReport(Verdict(True), vifs=(*vifs, other)))
    assert "vif1.0 (of 200" in text
    assert line_with(text, "vif201.0")[2:4] == ["2", "single"]
    assert "Software" not in text


@pytest.mark.parametrize(
    ("backend", "why"), [("linux", "1\n"), ("xnb", "1: xnb has one for each vif\n")]
)
def test_fewer_queues_than_were_asked_for_are_said_so(backend: str, why: str) -> None:
    vifs = (VifReport("vif1.0", 1, False, PathReport(), PathReport()),)
    asked = RunReport(Verdict(True), RunOptions(queues=4, backend=backend), vifs=vifs)
    assert f"\n4 queues were asked for, the ends agreed on {why}" in render_text(asked)
    got = evolve(asked, vifs=(evolve(vifs[0], queues=4),))
    assert "asked for" not in render_text(got)


def test_an_interrupted_run_has_a_verdict_of_its_own() -> None:
    report = RunReport(Verdict(False, ("interrupted by SIGINT",)), interrupted="SIGINT")
    assert render_text(report) == "INTERRUPTED: interrupted by SIGINT\n"


def test_a_switch_has_its_row_and_its_direction() -> None:
    text = render_text(evolve(good_report(), switch=SWITCH))
    assert line_with(text, "through the switch")[1:3] == ["7,000", "7,000"]
    assert "3        3      6,998        2      1         0        0        5" in text


def test_many_domains_and_ports_are_added_up() -> None:
    domains = tuple(DomainReport(f"dom{i}", grants_made=i) for i in range(8))
    ports = tuple(PortReport("guest", "gen:60x5", Counters(frames_in=5)) for _ in range(8))
    text = render_text(RunReport(Verdict(True), domains=domains, ports=ports))
    assert line_with(text, "grants made") == ["grants made", "0", "28"]
    assert "7 others" in text
    assert line_with(text, "guest") == ["guest", "gen:60x5 (8 times)", "40", "0"]
