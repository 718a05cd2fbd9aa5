"""Any JSON value as a record file: played, or one line that says what is wrong with it."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xennet.cli import main
from xennet.netmap.event_signal import EventSignal
from xennet.netmap.replay.steps import STEPS

ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5000)
    | st.floats()
    | st.text(st.characters(codec=None, categories=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
_WORDS = st.sampled_from(["a", "b", "rx0", "tx0", "htx0", "dm0", "vale0:1", "00", "IN", ""])
_KEYS = (
    *("fd", "ring", "slot", "head", "cur", "tail", "rings", "slots", "frames", "rows", "prep"),
    *("reqtype", "name", "body_in", "opts_in", "opts_out", "ret", "errno", "data", "datalen"),
    *("length", "events", "timeout_ms", "first", "dev", "text", "request", "got", "defect"),
)
_VALUE = ANY | _WORDS | st.integers(0, 8)
_STEP = st.builds(
    lambda op, rest: {"op": op, **rest},
    st.sampled_from([*STEPS, "table"]),
    st.dictionaries(st.sampled_from(_KEYS), _VALUE, max_size=6),
)
_OPEN = st.sampled_from("ab").map(lambda fd: {"op": "open", "fd": fd})
_IDS = st.sampled_from(
    [
        *("a", "vale/morefrag-3", "vale/morefrag-99999999999", "close/dup", "poll/wake-out"),
        *("prologue/tx-vale-0", "prologue/rx-none-", "csb_kloop/kloop-runs", "more/mem-params"),
        *("vale_nic/two-threads", "forward/stack-to-nic-sysctl-x", "\ud800"),
    ]
)
_CASE = st.fixed_dictionaries(
    {"id": _IDS | ANY, "steps": st.lists(_OPEN | _STEP | ANY, max_size=5) | ANY}
)
_ROW = st.fixed_dictionaries({"name": _WORDS | ANY, "errno": ANY}, optional={"req_name": ANY})
_REGION_KEYS = ("memsize", "reply", "netmap_if", "rings", "first_64k_zlib_b64")
_REGION = st.fixed_dictionaries(dict.fromkeys(_REGION_KEYS, _VALUE))
RECORDS = (
    ANY
    | st.fixed_dictionaries({"cases": st.lists(_CASE, max_size=3) | ANY})
    | st.fixed_dictionaries(
        {
            "cases": st.lists(
                st.fixed_dictionaries(
                    {"id": _IDS, "steps": st.lists(_OPEN | _STEP, min_size=1, max_size=6)}
                ),
                max_size=3,
            )
        }
    )
    | st.lists(_ROW, max_size=3)
    | st.dictionaries(st.text(max_size=3), _REGION, max_size=2)
)


def replayed(path: Path) -> tuple[int, str, str]:
    """Exit code, stdout, stderr. Stdout is as strict as a terminal in UTF-8."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["netmap", "replay", str(path)])
    out.flush()
    return code, out.buffer.getvalue().decode(), err.getvalue()  # type: ignore[attr-defined]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(record=RECORDS)
def test_any_value_is_played_or_refused_in_one_line(tmp_path: Path, record: Any) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    code, out, err = replayed(path)
    if code == 2:
        assert out == ""
        assert str(path) in err
        assert err.splitlines()[0].startswith("xennet: ")
        assert len(err.splitlines()) <= 2  # the second names the help
    else:
        assert (code in (0, 1), err) == (True, "")
        assert out.endswith("not played\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"topic":1,"cases":[{"id":1,"steps":[{"op":"x"}]}]}', "case number 0: its id is no word"),
        ('{"cases":[{"id":"a","steps":[5]}]}', "case 'a': step 0: no object with an op"),
        ('{"cases":[{"id":["a"],"steps":[]}]}', "case number 0: its id is no word"),
        ('{"cases":[{"id":"a"}]}', "case 'a': no list of steps"),
        ('{"cases":[7]}', "case number 0: no object of id and steps"),
        ('[{"name":5,"errno":0}]', "no record of netmap (neither cases nor names nor regions)"),
        ("[" * 100_000, "no record of netmap (more than 50 values in each other)"),
        ("[" * 60 + "]" * 60, "no record of netmap (more than 50 values in each other)"),
        ("1" * 5000, "no record of netmap (ValueError: "),
        ("", "no record of netmap (JSONDecodeError: Expecting value: line 1 column 1 (char 0))"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    code, out, err = replayed(path)
    assert (code, out) == (2, "")
    assert err.startswith(f"xennet: {path}: {why}")


def test_a_capture_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(bytes.fromhex("d4c3b2a1") + bytes(range(256)) * 100)
    code, _, err = replayed(path)
    assert code == 2
    assert f"{path}: no record of netmap (UnicodeDecodeError: " in err
    assert len(err) < 300 + len(str(path))


def test_a_tail_beyond_the_ring_ends(tmp_path: Path) -> None:
    """What is shown of a ring ends, whatever tail a step has written."""
    record = json.loads((Path(__file__).parents[1] / "data/netmap/vale.json").read_text())
    steps = record["cases"][0]["steps"][:4]
    record["cases"] = [record["cases"][0] | {"steps": steps}]
    fd = steps[-1]["fd"]
    assert steps[-1]["op"] == "ctrl"
    for ring in ("rx0", "tx0"):
        steps.append({"op": "setring", "fd": fd, "ring": ring, "tail": 1 << 30})
        steps.append({"op": "received", "fd": fd, "ring": ring, "frames": []})
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    assert replayed(path)[0] == 1


_REGISTER = {"op": "ctrl", "fd": "a", "reqtype": 1, "name": "vale0:a", "ret": 0, "errno": 0}
_BODY = "00" * 36 + "01000000" + "00" * 16
_PUT = {"op": "put", "fd": "a", "ring": "tx0", "slot": 0, "len": 60, "flags": 0}


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (_PUT | {"data": "00", "datalen": 10**15}, "bytes of a frame: 1000000000000000, at most"),
        (
            _PUT | {"data": {"hex": "", "then": "00", "times": 10**15}, "datalen": 60},
            "bytes repeated: 1000000000000000, at most",
        ),
        (
            {"op": "note", "text": f"a sends {10**12} frames tagged 0..9, one TXSYNC each"},
            "frames: 1000000000000, at most",
        ),
        ({"op": "parameter", "buf_num": 10**9, "buf_size": 64}, "buffers: 1000000000, at most"),
        (
            _REGISTER
            | {"body_in": _BODY, "opts_in": [[1, 72, "P" * 16 + "f" * 12 + "0" * 4 + "00" * 56]]},
            "bytes of extmem: 281474976710655, at most",
        ),
    ],
)
def test_a_record_that_asks_for_much_is_told_so(
    tmp_path: Path, step: dict[str, Any], why: str
) -> None:
    opened = [{"op": "open", "fd": "a"}, _REGISTER | {"body_in": _BODY}]
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"cases": [{"id": "much", "steps": [*opened, step]}]}))
    code, out, _ = replayed(path)
    assert code == 1
    assert why in out


def test_a_record_has_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xennet.netmap.replay.play.MOST_SECONDS", -1)
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"cases": [{"id": "long", "steps": []}]}))
    code, _, err = replayed(path)
    assert code == 2
    assert "case 'long': more than -1 s until here" in err


def test_a_file_without_end_is_no_record() -> None:
    code, _, err = replayed(Path("/dev/zero"))
    assert code == 2
    assert "/dev/zero: no record of netmap (more than 67108864 bytes)" in err


def test_event_descriptors_are_those_of_the_recorders_process(tmp_path: Path) -> None:
    """Numbers of eventfds that only that process had; and one that it did not have."""
    record = json.loads((Path(__file__).parents[1] / "data/netmap/csb_eventfds.json").read_text())
    case = next(c for c in record["cases"] if c["id"] == "csb_eventfds/minus-one")
    fds = b"".join(number.to_bytes(4, "little") for number in (19, 20, 21, 22)).hex()
    EventSignal()  # what a process has once, for all its kernel loops
    before = len(os.listdir("/proc/self/fd"))
    for option, code in ((fds, 0), (fds[:8] + "e7030000" + fds[16:], 1)):
        case["steps"][-1]["opts_in"] = [[2, 40, option]]
        path = tmp_path / "record.json"
        path.write_text(json.dumps({"cases": [case]}))
        assert replayed(path)[0] == code
    assert len(os.listdir("/proc/self/fd")) == before
