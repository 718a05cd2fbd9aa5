"""The command line with a plain wire in place of the vif: options, output, exit codes."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from attrs import evolve
from click.testing import CliRunner
from wire import wire

import xennet
from xennet.cli import group, main
from xennet.frames import FrameBatch
from xennet.port import open_port
from xennet.run import RunOptions, RunReport, Verdict

SAMPLE = Path(xennet.__file__).parent / "data" / "guest-and-host-tcp.pcap"
Run = Callable[..., tuple[int, str, str]]
#: Seconds until a thing that has to happen counts as one that does not.
_SECONDS = 60


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*args: str, link=wire) -> tuple[int, str, str]:
        code = main(args, link=link)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def bad(*args: object) -> RunReport:
    return evolve(wire(*args), verdict=Verdict(False, ("a reason",)))


def frames_in(path: Path) -> int:
    with closing(open_port(f"pcap:{path}")) as port:
        return port.pull(FrameBatch(memoryview(bytearray(1 << 24)), 10_000))


# --- good runs ------------------------------------------------------------------------------------


def test_a_good_run_reports_and_exits_0(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    code, stdout, stderr = run("run", "--guest", f"pcap:{SAMPLE}", "--host", f"record:{out}")
    assert (code, stderr) == (0, "")
    assert re.search(r"^guest to host +492 +492 ", stdout, re.MULTILINE)
    assert stdout.endswith("\nGOOD: carried\n")
    assert "\x1b" not in stdout
    assert frames_in(out) == 492


def test_a_bad_verdict_exits_1(run: Run) -> None:
    code, stdout, stderr = run("run", "--guest", "gen:60x3", "--host", "null:", link=bad)
    assert (code, stderr) == (1, "")
    assert stdout.endswith("\nBAD: a reason\n")


def test_json_is_the_report(run: Run) -> None:
    code, stdout, stderr = run("run", "--guest", "gen:60x3", "--host", "echo:", "--json")
    assert (code, stderr) == (0, "")
    report = json.loads(stdout)
    assert report["format"] == "xennet-run/1"
    assert [direction["frames_received"] for direction in report["directions"]] == [3, 3]
    assert [port["spec"] for port in report["ports"]] == ["gen:60x3", "echo:"]


def test_quiet_is_the_verdict_alone(run: Run) -> None:
    args = ("run", "--guest", "gen:60x3", "--host", "null:", "--quiet")
    assert run(*args) == (0, "GOOD: carried\n", "")
    assert run(*args, link=bad) == (1, "BAD: a reason\n", "")


DEFAULTS = RunOptions()


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ("", DEFAULTS),
        ("--grant-version 2", evolve(DEFAULTS, grant_version=2)),
        ("--queues 8", evolve(DEFAULTS, queues=8)),
        ("--split-channels", DEFAULTS),
        ("--single-channel", evolve(DEFAULTS, split_channels=False)),
        ("--mtu 9000", evolve(DEFAULTS, mtu=9000)),
        ("--no-sg", evolve(DEFAULTS, sg=False)),
        ("--no-gso", evolve(DEFAULTS, gso=False)),
        ("--no-csum", evolve(DEFAULTS, csum=False)),
        ("--backend xnb", evolve(DEFAULTS, backend="xnb")),
        ("--frontend freebsd", evolve(DEFAULTS, frontend="freebsd")),
        ("--frontend windows", evolve(DEFAULTS, frontend="windows")),
        ("--quota-nodes 2000", evolve(DEFAULTS, quota_nodes=2000)),
        ("--evtchn fifo", evolve(DEFAULTS, evtchn="fifo")),
        ("--evtchn 2l", evolve(DEFAULTS, evtchn="2l")),
        ("--allow-empty", evolve(DEFAULTS, allow_empty=True)),
        ("--arena 64", evolve(DEFAULTS, arena=64)),
    ],
)
def test_options_reach_the_link(run: Run, args: str, options: RunOptions) -> None:
    _, stdout, _ = run("run", "--guest", "null:", "--host", "null:", "--json", *args.split())
    assert RunOptions(**json.loads(stdout)["options"]) == options


def ports_of(*args: str) -> tuple[list[str], list[str], RunOptions]:
    """What the link would get."""
    seen: list[tuple[list[str], list[str], RunOptions]] = []

    def link(guests, hosts, options, progress) -> RunReport:
        seen.append(([port.name for port in guests], [port.name for port in hosts], options))
        return RunReport(Verdict(True), options)

    assert main(["run", "--quiet", *args], link=link) == 0
    return seen[0]


def test_one_port_stands_for_all_vifs() -> None:
    args = ("--guests", "2", "--vifs", "2", "--guest", "gen:60x3", "--host", "null:")
    guests, hosts, options = ports_of(*args)
    assert guests == ["gen:60x3"] * 4
    assert hosts == ["null:"] * 4
    assert (options.guests, options.vifs, options.switch) == (2, 2, False)


def test_each_vif_may_have_a_port_of_its_own() -> None:
    guests, hosts, _ = ports_of(
        "--guests", "2", "--guest", "gen:60x3", "--guest", "gen:70x3", "--host", "null:"
    )
    assert guests == ["gen:60x3", "gen:70x3"]
    assert hosts == ["null:", "null:"]


def test_a_switch_takes_the_place_of_the_hosts_ports() -> None:
    guests, hosts, options = ports_of("--guests", "3", "--switch", "--guest", "gen:60x3")
    assert (guests, hosts) == (["gen:60x3"] * 3, [])
    assert options.switch


def test_names_of_drivers_are_those_that_there_are() -> None:
    from xennet.cli.run import BACKENDS, EVTCHN_ABIS, FRONTENDS, MAX_MTU, MAX_QUEUES, MIN_MTU
    from xennet.evtchn import FifoBits, TwoLevelBits
    from xennet.netback.policies import POLICIES, policy
    from xennet.netback.policy import MAX_QUEUES as BACKEND_QUEUES
    from xennet.netfront import device
    from xennet.netfront.kinds import KINDS
    from xennet.netfront.options import MAX_QUEUES as FRONTEND_QUEUES

    assert set(BACKENDS) == set(POLICIES)
    assert set(FRONTENDS) == set(KINDS)
    assert (TwoLevelBits.abi, FifoBits.abi) == EVTCHN_ABIS
    assert {kind.evtchn for kind in KINDS.values()} == set(EVTCHN_ABIS)
    assert {policy(name).evtchn for name in POLICIES} == set(EVTCHN_ABIS)
    assert MAX_QUEUES == BACKEND_QUEUES == FRONTEND_QUEUES
    assert (MIN_MTU, MAX_MTU) == (device.MIN_MTU, device.MAX_MTU)


# --- errors are one line --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--guest", "veth:x", "--host", "null:"), "port 'veth:x': unknown, known are pcap:FILE"),
        (("--guest", "gen:1x1", "--host", "null:"), "gen: SIZE must be 14 to 65535 bytes, not 1"),
        (("--guest", "pcap:/none", "--host", "null:"), "/none: cannot be opened: No such file"),
        (("--guest", "pcap:/", "--host", "null:"), "/: cannot be opened: Is a directory"),
        (("--guest", "pcap:/a\x1b[2J\nb", "--host", "null:"), r"/a\x1b[2J b: cannot be opened"),
        (("--guest", "null:"), "Missing option '--host'."),
        (("--guest", "null:", "--host", "null:", "--grant-version", "3"), "3 is not in the range"),
        (("--guest", "null:", "--host", "null:", "--nope"), "--nope"),
        (("--guest", "null:", "--host", "null:", "--queues", "9"), "9 is not in the range 1<=x<=8"),
        (("--guest", "null:", "--host", "null:", "--queues", "0"), "0 is not in the range"),
        (
            ("--guest", "null:", "--host", "null:", "--queues", "two"),
            "'two' is not a valid whole number",
        ),
        (
            ("--guest", "null:", "--host", "null:", "--backend", "os:getcwd"),
            "os:getcwd is called as factory(hv, node): too many positional arguments",
        ),
        (("--guest", "null:", "--host", "null:", "--mtu", "67"), "67 is not in the range"),
        (("--guest", "null:", "--host", "null:", "--mtu", "65522"), "65522 is not in the range"),
        (("--guest", "null:", "--host", "null:", "--backend", "bsd"), "'bsd' is not one of"),
        (("--guest", "null:", "--host", "null:", "--frontend", "os2"), "'os2' is not one of"),
        (("--guest", "null:", "--host", "null:", "--evtchn", "3l"), "'3l' is not one of"),
        (("--guest", "null:", "--host", "null:", "--guests", "0"), "0 is not in the range"),
        (("--guest", "null:", "--host", "null:", "--vifs", "65"), "65 is not in the range"),
        (
            ("--guest", "null:", "--guest", "null:", "--host", "null:", "--guests", "3"),
            "--guest is given 2 times for 3 vifs.",
        ),
        (
            ("--guest", "null:", "--host", "null:", "--host", "null:"),
            "--host is given 2 times for 1 vif.",
        ),
        (
            ("--guest", "tap:s@a", "--host", "tap:s@a"),
            "port 'tap:s@a' is given 2 times, it is one tap.",
        ),
        (
            ("--guest", "tap:s", "--host", "null:", "--guests", "3"),
            "port 'tap:s' is given 3 times, it is one tap.",
        ),
        (("--guest", "null:", "--host", "null:", "--switch"), "leave --host out"),
        (("--guest", "null:", "--switch"), "--switch needs two vifs at least"),
        (
            ("--guest", "null:", "--host", "null:", "--guests", "500", "--vifs", "3"),
            "--guests times --vifs is 1500, more than 1000.",
        ),
        (
            ("--guest", "record:/tmp/x", "--host", "null:", "--guests", "2"),
            "/tmp/x",
        ),
    ],
)
def test_bad_input_is_one_line_and_exits_2(run: Run, args: tuple[str, ...], message: str) -> None:
    code, stdout, stderr = run("run", *args)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("xennet: ")
    assert message in stderr
    assert stderr.splitlines()[1:] in ([], ["Try 'xennet run --help'."])


@pytest.mark.parametrize("value", ["-1", "soon", "nan", "inf", "-inf", "1e7", "1e308"])
@pytest.mark.parametrize("option", ["--for", "--hold", "--hold-before", "xs --timeout"])
def test_a_time_is_a_number_of_seconds_in_range(run: Run, option: str, value: str) -> None:
    ports = ("run", "--guest", "null:", "--host", "null:", "--xenstore-socket", "x")
    words = (option.split() if " " in option else [*ports, option]) + [value]
    code, stdout, stderr = run(*words, *(("ls",) if words[0] == "xs" else ()))
    assert (code, stdout) == (2, "")
    least = "0<x" if words[0] == "xs" else "0<=x"
    said = f"Invalid value for '{words[-2]}': {value!r} is not in the range {least}<=1000000"
    assert stderr.splitlines()[0] == f"xennet: {said}"


@pytest.mark.parametrize(
    ("link", "more", "said"),
    [
        ("netmap:vale0", "--mtu 9000", "an MTU of 9000, a buffer has 2048 bytes"),
        ("netmap:p{1", "--mtu 2049", "an MTU of 2049, a buffer has 2048 bytes"),
        ("netmap:vale" + 12 * "x", "", "is too long for a switch's name"),
        ("netmap:vale" + 10 * "x", "--guests 2", "_1' is too long for a switch's name"),
        ("netmap:" + 16 * "x" + "{1", "", "too long for a pipe, 15 letters at most"),
        ("shmif:{folder}/bus", "--mtu 1501", "the interfaces of a bus have 1500"),
    ],
)
def test_a_link_that_cannot_be_is_refused_before_a_recording_is_begun(
    run: Run, tmp_path: Path, link: str, more: str, said: str
) -> None:
    keep = tmp_path / "keep.pcap"
    keep.write_bytes(b"kept")
    link = link.replace("{folder}", str(tmp_path))
    words = ("--link", link, *more.split(), "--guest", "gen:60x10")
    tap = ("--host", "null:", "--tap-file", f"host={keep}")
    code, stdout, stderr = run("run", *words, *tap)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith(f"xennet: --link {link}: ")
    assert said in stderr
    assert keep.read_bytes() == b"kept"


@pytest.mark.parametrize(
    "words",
    [
        ("netmap:vale0", "--mtu", "2048"),
        ("netmap:vale0", "--guests", "8"),
        ("netmap:vale" + 11 * "x",),
        ("netmap:" + 15 * "x" + "{1",),
        ("shmif:{folder}/bus", "--mtu", "1500"),
    ],
)
def test_a_link_at_its_limits_carries(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    words = tuple(word.replace("{folder}", str(tmp_path)) for word in words)
    ports = ("--guest", "gen:60x10", "--host", "null:")
    assert run("run", *ports, "--link", *words, link=None)[0] == 0


def test_an_error_about_usage_names_the_help_and_one_about_a_file_does_not(run: Run) -> None:
    hint = "\nTry 'xennet run --help'.\n"
    assert run("run", "--guest", "null:")[2].endswith(hint)
    assert run("run", "--guest", "null:", "--host", "veth:x")[2].endswith(hint)
    stderr = run("run", "--guest", "pcap:/none", "--host", "null:")[2]
    assert stderr == "xennet: /none: cannot be opened: No such file or directory\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("fly", "No such command 'fly'.\nTry 'xennet --help'."),
        ("rnu", "No such command 'rnu'. Did you mean 'run'?\nTry 'xennet --help'."),
        ("xs raed", "No such command 'raed'. Did you mean 'read'?\nTry 'xennet xs --help'."),
        ("run --quite", "No such option '--quite'. Did you mean '--quiet'"),
        ("lifecycle migrate", "There is no scenario 'migrate'. Did you mean 'migration'?"),
    ],
)
def test_somebody_who_mistypes_is_told_what_is_near(run: Run, args: str, message: str) -> None:
    code, stdout, stderr = run(*args.split())
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"xennet: {message}")


@pytest.mark.parametrize(
    ("port", "meant"),
    [
        ("{there}", "pcap:{there}"),
        ("out.pcapng", "pcap:out.pcapng or record:out.pcapng"),
        ("pcpa:in.pcap", "pcap:in.pcap"),
    ],
)
def test_a_capture_for_a_port_is_told_how_ports_are_written(
    run: Run, tmp_path: Path, port: str, meant: str
) -> None:
    there = tmp_path / "capture"
    there.touch()
    _, _, stderr = run("run", "--guest", port.format(there=there), "--host", "null:")
    assert f"unknown, did you mean {meant.format(there=there)}?\n" in stderr


def test_a_file_being_read_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(SAMPLE.read_bytes())
    code, _, stderr = run("run", "--guest", f"pcap:{path}", "--host", f"record:{path}")
    assert code == 2
    assert "cannot be recorded to, the run reads it" in stderr
    assert path.read_bytes() == SAMPLE.read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_recording_that_does_not_reach_the_disk_is_not_a_good_run(run: Run) -> None:
    code, stdout, stderr = run("run", "--guest", "gen:60x1", "--host", "record:/dev/full")
    assert (code, stdout) == (2, "")
    assert stderr.startswith("xennet: /dev/full: cannot be written")


@pytest.mark.skipif(sys.flags.dev_mode, reason="python -X dev shows the traceback")
def test_an_error_of_our_own_is_one_line_and_exits_70(run: Run, tmp_path: Path) -> None:
    def broken(*_: object) -> RunReport:
        raise RuntimeError("two\nlines")

    out = tmp_path / "out.pcap"
    args = ("run", "--guest", "null:", "--host", f"record:{out}")
    code, stdout, stderr = run(*args, link=broken)
    assert (code, stdout) == (70, "")
    assert stderr == "xennet: internal error: RuntimeError: two lines\n"
    assert frames_in(out) == 0


RAISES = """
class Raises:
    def __init__(self, hv, node):
        backend = hv.store.read(f"{node}/backend").decode()
        hv.store.watch(f"{backend}/state", "mine", self.changed)

    def changed(self, path, token):
        raise """


@pytest.mark.skipif(sys.flags.dev_mode, reason="python -X dev shows the traceback")
@pytest.mark.parametrize(
    ("command", "error", "said"),
    [
        (("run",), "ValueError('not today')", "ValueError: not today"),
        (("run",), "OSError(28, 'full')", "OSError: [Errno 28] full"),  # not of standard output
        (("trace", "run", "-o", "seen.jsonl"), "ValueError('no')", "ValueError: no"),
        (("step",), "ValueError('no')", "ValueError: no"),
    ],
)
def test_what_a_driver_of_ones_own_raises_is_told_with_its_place(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    error: str,
    said: str,
) -> None:
    (tmp_path / "driver_that_raises.py").write_text(RAISES + error)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "driver_that_raises", raising=False)
    words = ("--guest", "null:", "--host", "gen:60x1", "--frontend", "driver_that_raises:Raises")
    code = main([*command, *words])
    stderr = capsys.readouterr().err
    place = "in changed, driver_that_raises.py:8 (while delivering xenstore"
    assert stderr.startswith(f"xennet: the driver raised {said} {place}")
    assert (code, stderr.count("\n")) == (1, 1)


def test_an_interrupt_exits_130_and_leaves_a_valid_recording(run: Run, tmp_path: Path) -> None:
    def interrupted(*args: object) -> RunReport:
        wire(*args)
        raise KeyboardInterrupt

    out = tmp_path / "out.pcap"
    args = ("run", "--guest", "gen:60x9", "--host", f"record:{out}")
    code, stdout, stderr = run(*args, link=interrupted)
    assert (code, stdout) == (130, "")
    assert stderr.strip() == "xennet: interrupted"
    assert frames_in(out) == 9


# --- as a process ---------------------------------------------------------------------------------


def process(*args: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_ctrl_c_in_the_middle_of_a_run_leaves_a_valid_recording(tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    code = (
        "import sys; from wire import wire; from xennet.cli import main;"
        "sys.exit(main(sys.argv[1:], link=wire))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    args = ("run", "--guest", "gen:60x100000000", "--host", f"record:{out}")
    running = process("-c", code, *args, env=env)
    try:
        deadline = time.monotonic() + _SECONDS
        while not (out.exists() and out.stat().st_size > 5_000_000):
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        stdout, stderr = running.communicate(timeout=_SECONDS)
    finally:
        running.kill()
    assert (running.returncode, stdout, stderr.strip()) == (130, "", "xennet: interrupted")
    with out.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
    assert size > 5_000_000
    assert (size - 24) % 76 == 0, "the last record is whole"


def test_python_m_xennet_is_the_command() -> None:
    running = process("-m", "xennet", "--version")
    stdout, stderr = running.communicate(timeout=_SECONDS)
    assert (running.returncode, stderr) == (0, "")
    assert re.fullmatch(r"xennet \d+\.\d+\.\d+\n", stdout)


def test_bad_input_as_a_process_shows_no_traceback() -> None:
    running = process("-m", "xennet", "run", "--guest", "x", "--host", "null:")
    _, stderr = running.communicate(timeout=_SECONDS)
    assert running.returncode == 2
    assert stderr.startswith("xennet: Invalid value for '--guest': port 'x': unknown")
    assert stderr.count("\n") == 2


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = (
        "import sys, xennet.cli;"
        "heavy = {'rich', 'dpkt', 'construct', 'json', 'numpy', 'scapy', 'textual'};"
        "print(*heavy & set(sys.modules))"
    )
    running = process("-c", code, env={**os.environ, "XENNET_ENGINE": ""})
    assert running.communicate(timeout=_SECONDS) == ("\n", "")


def test_the_help_of_all_commands_imports_none_of_them() -> None:
    code = (
        "import sys; from xennet.cli import main; main(['--help']);"
        "print(*{'attrs', 'dataclasses'} & set(sys.modules),"
        " *sorted(m for m in sys.modules if m.startswith('xennet.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        done.stdout.splitlines()[-1]
        == "xennet.cli.group xennet.cli.output xennet.cli.process_start"
    )


def test_the_help_tells_each_command_in_a_line_and_each_exists() -> None:
    lines = CliRunner().invoke(group, ["--help"]).output.partition("Commands:\n")[2].splitlines()
    told = dict(line.split(maxsplit=1) for line in lines[: lines.index("")])
    with group.make_context("xennet", [], resilient_parsing=True) as ctx:
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            assert command is not None
            assert told.pop(name) == command.short_help
    assert not told


RUN = ("run", "--guest", "gen:60x3", "--host", "null:")


def test_a_reader_of_messages_that_has_left_is_no_success(run: Run) -> None:
    def broken(*_: object) -> RunReport:
        raise BrokenPipeError(errno.EPIPE, "not of standard output")

    assert run(*RUN, link=broken)[::2] == (2, "xennet: Broken pipe\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("args", [("info",), ("--help",), ("lifecycle",), RUN])
def test_output_that_does_not_fit_is_one_line_and_no_error_of_ours(args: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        running = subprocess.run(
            [sys.executable, "-m", "xennet", *args], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert running.returncode == 2
    assert running.stderr == "xennet: standard output: No space left on device\n"


@pytest.mark.parametrize("args", [("info",), ("--help",), RUN, (*RUN, "--json")])
def test_output_that_is_closed_is_one_line_and_messages_are_not_missed(
    args: tuple[str, ...],
) -> None:
    def started(closed: str) -> tuple[int, str, str]:
        done = subprocess.run(
            ["bash", "-c", f'exec "$0" -m xennet "$@" {closed}', sys.executable, *args],
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    assert started(">&-") == (2, "", "xennet: standard output: Bad file descriptor\n")
    code, out, _ = started("2>&-")
    assert code == 0
    assert out


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (("ring", "-"), 2, "xennet: -: Bad file descriptor\n"),
        (
            ("run", "--guest", "pcap:-", "--host", "null:"),
            2,
            "xennet: standard input: cannot be opened: Bad file descriptor\n",
        ),
        (("step", "--guest", "gen:60x1", "--host", "null:"), 0, ""),
    ],
)
def test_input_that_is_closed_is_told_to_who_needs_it(
    args: tuple[str, ...], code: int, error: str
) -> None:
    done = subprocess.run(
        ["bash", "-c", 'exec "$0" -m xennet "$@" <&-', sys.executable, *args],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (code, error)


def test_recording_never_takes_the_place_of_a_closed_stdout(tmp_path: Path) -> None:
    target = tmp_path / "out.pcap"
    command = f'exec "$0" -m xennet run --guest gen:60x3 --host record:{target} <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", command, sys.executable]).returncode == 2
    assert target.stat().st_size == 24 + 3 * (16 + 60)


def test_too_little_memory_is_one_line_and_no_error_of_ours() -> None:
    limited = 'ulimit -v 400000; exec "$0" -m xennet "$@"'
    running = subprocess.run(
        ["bash", "-c", limited, sys.executable, *RUN], capture_output=True, text=True
    )
    assert (running.returncode, running.stdout) == (2, "")
    assert running.stderr == "xennet: out of memory: no arena of 512 MiB: Cannot allocate memory\n"


@pytest.mark.parametrize(
    "args", [("info",), ("lifecycle",), ("--help",), RUN, ("lifecycle", "guest-closes")]
)
def test_a_reader_who_leaves_changes_nothing_about_the_exit_code(args: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    running = subprocess.run(
        [sys.executable, "-m", "xennet", *args], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (running.returncode, running.stderr) == (0, "")


# --- the rest -------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [(), ("--help",)])
def test_help_names_the_commands(run: Run, args: tuple[str, ...]) -> None:
    code, stdout, _ = run(*args)
    assert code == 0
    assert re.search(r"^  run +\S", stdout, re.MULTILINE)
    assert re.search(r"^  info +\S", stdout, re.MULTILINE)


@pytest.mark.parametrize("command", ["", "run", "info", "lifecycle", "xs", "xs ls", "xenstored"])
def test_h_is_help(run: Run, command: str) -> None:
    code, stdout, stderr = run(*command.split(), "-h")
    assert (code, stderr) == (0, "")
    assert stdout.startswith(f"Usage: xennet {command}".rstrip())
    assert stdout == run(*command.split(), "--help")[1]


def test_help_has_all_exit_codes(run: Run) -> None:
    codes = re.findall(r"^ +(\d+)  ", run("--help")[1], re.MULTILINE)
    assert codes == ["0", "1", "2", "70", "129", "130", "143"]


def test_a_group_alone_shows_its_help(run: Run) -> None:
    assert run("xs") == (0, run("xs", "--help")[1], "")


def commands(command: click.Command, ctx: click.Context) -> Iterator[tuple[click.Context, str]]:
    """A command and all below it: its context and its help."""
    yield ctx, command.get_help(ctx)
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None
            yield from commands(below, below.context_class(below, ctx, name))


def test_no_help_is_cut_short_or_names_a_type_of_clicks() -> None:
    with group.make_context("xennet", [], resilient_parsing=True) as ctx:
        found = {inner.command_path: text for inner, text in commands(group, ctx)}
    assert {"xennet host detach", "xennet netmap vif", "xennet fuzz corpus prune"} <= found.keys()
    for path, text in found.items():
        assert not re.search(r"\w\.\.\.$", text.partition("Commands:")[2], re.MULTILINE), path
        assert not re.search(r"INTEGER|FLOAT|RANGE", text), path


def test_a_target_of_the_fuzzer_is_a_command(run: Run) -> None:
    code, stdout, _ = run("fuzz", "copy", "--help")
    assert (code, stdout.splitlines()[0]) == (0, "Usage: xennet fuzz copy [OPTIONS]")
    _, _, stderr = run("fuzz", "copy", "--time", "0")
    assert stderr.endswith("\nTry 'xennet fuzz copy --help'.\n")


def test_the_names_of_scenarios_are_those_that_there_are() -> None:
    from xennet.cli.lifecycle import SCENARIO_NAMES
    from xennet.lifecycle.scenarios import SCENARIOS

    assert tuple(SCENARIOS) == SCENARIO_NAMES


def test_help_of_run_names_the_ports(run: Run) -> None:
    _, stdout, _ = run("run", "--help")
    for usage in ("pcap:FILE", "gen:SIZExCOUNT", "record:FILE", "null:", "echo:"):
        assert usage in stdout


def test_info_shows_versions_arena_and_engine(run: Run) -> None:
    code, stdout, _ = run("info")
    lines = dict(line.split(maxsplit=1) for line in stdout.splitlines())
    assert code == 0
    assert lines["python"].startswith("3.")
    assert lines["engine"] == "plain"
    assert lines["arena"] == "131072 frames of 4096 bytes (512 MiB)"
    assert {"xennet", "attrs", "click", "construct", "dpkt", "rich"} <= lines.keys()


def test_info_as_json_says_the_same(run: Run) -> None:
    code, stdout, _ = run("info", "--json")
    about = json.loads(stdout)
    assert code == 0
    keys = ["format", "python", "packages", "arena", "engine", "plugins", "plugin_faults"]
    assert list(about) == keys
    assert about["format"] == "xennet-info/1"
    assert about["arena"] == {"frames": 131072, "page_size": 4096}
    assert about["engine"] == {"name": "plain", "numba": None}
    lines = dict(line.split(maxsplit=1) for line in run("info")[1].splitlines())
    assert about["packages"].items() <= lines.items()


def test_an_arena_that_may_be_too_small_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.pcap"
    args = ["--guest", "gen:60x3", "--host", f"record:{out}", "--arena", "42", "--queues", "8"]
    assert main(["run", *args]) == 2
    assert capsys.readouterr().err == (
        "xennet: 1 guest with 1 vif of 8 queues can take 10880 page frames (43 MiB), the "
        "machine has 10752\n"
    )
    assert not out.exists()


def test_the_smallest_arena_carries_what_is_asked_for() -> None:
    args = ["--guest", "tcp:60000x40", "--host", "echo:", "--backend", "xnb", "--quiet"]
    assert main(["run", *args, "--arena", "7"]) == 0


def test_a_run_imports_nothing_of_what_it_does_not_use() -> None:
    script = (
        "import sys; from xennet.cli import main;"
        "main(['run', '--quiet', '--guest', 'gen:60x1', '--host', 'null:']);"
        "print(*sorted(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    imported = set(output.splitlines()[-1].split())
    unused = {"xennet.netback.xnb", "xennet.link.switch", "xennet.cli.xs", "xennet.lifecycle"}
    unused |= {"xennet.exec", "xennet.netmap", "xennet.trace", "xennet.step", "xennet.course"}
    unused |= {"textual", "jinja2", "rich", "json", "xennet.engine.fast.counted"}
    unused |= {"xennet.xenstore.daemon"}
    assert "xennet.netback" in imported
    assert not imported & unused


def test_the_names_of_the_readme_import_no_reports() -> None:
    script = (
        "import sys; from xennet import Host, PagePoller, VifLink, XnbPoller, open_port, why;"
        "unused = {'xennet.link.report', 'xennet.link.inventory', 'xennet.run'};"
        "print(*unused & set(sys.modules))"
    )
    environment = os.environ | {"XENNET_ENGINE": "plain"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"


@pytest.mark.parametrize("command", ["run --quiet --guest gen:60x1 --host null:", "info"])
def test_garbage_is_collected_once_a_command_works(command: str) -> None:
    script = (
        "import gc, sys; from xennet.__main__ import main; main();"
        "print(gc.isenabled(), gc.get_freeze_count() > 10_000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command.split()], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "True True"


@pytest.mark.parametrize("threads", [None, "1"])
def test_a_run_has_one_thread_and_leaves_the_environment_alone(threads: str | None) -> None:
    script = (
        "import os; from xennet.cli import main;"
        "main(['run', '--quiet', '--guest', 'gen:60x1', '--host', 'null:']);"
        "print(len(os.listdir('/proc/self/task')), os.environ.get('OPENBLAS_NUM_THREADS'))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    if threads:
        environment["OPENBLAS_NUM_THREADS"] = threads
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"1 {threads}"


def test_only_the_screen_of_a_stepper_imports_what_draws_it() -> None:
    script = (
        "import sys; from xennet.cli import main;"
        "main(['step', '--guest', 'gen:60x1', '--host', 'null:', *sys.argv[1:]]);"
        "print(*{'textual', 'rich'} & set(sys.modules))"
    )
    for more in ([], ["--show"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *more], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == ""
