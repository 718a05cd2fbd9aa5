"""``xennet host`` as a process, and the programs that use it: commands, Debian's tools, pyxs."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from live_hosts import SECONDS, HostProcess, die_with_parent, environment, host_process, until

from xennet.abi.linux_xen import IOCTL_EVTCHN_BIND_UNBOUND_PORT
from xennet.frames import FrameBatch
from xennet.hostd.control_client import request
from xennet.hostd.control_socket import MOST_CLIENTS
from xennet.hostd.json_lines import encode
from xennet.port import open_port
from xennet.xenstore import Client, XsError

TOOLS = pytest.mark.skipif(
    shutil.which("xenstore-ls") is None, reason="Debian's xenstore-utils are not installed"
)


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    """One host for all tests that leave it as it was: two guests without vifs."""
    with (
        tempfile.TemporaryDirectory(prefix="xh") as above,
        host_process(f"{above}/d", "--guests", "2") as started,
    ):
        yield started
        assert [domain["vifs"] for domain in ask(started, "list")["domains"]] == [[], [], []]
        assert started.end() == (0, "")
        assert os.listdir(started.directory) == []


def ask(host: HostProcess, command: str, **arguments: Any) -> dict[str, Any]:
    return request(host.directory, command, arguments)


# -- commands --------------------------------------------------------------------------------------


def test_it_says_where_it_is_and_ends_in_order(tmp_path: Path) -> None:
    tmp_path /= "a #b"
    tmp_path.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "xennet", "host", "--guests", "1"],
        env=environment(XDG_RUNTIME_DIR=str(tmp_path)),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=die_with_parent,
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        (directory,) = tmp_path.iterdir()
        assert lines[0] == f"host {directory} (process {process.pid})\n"
        # To be pasted into a shell.
        named = [shlex.split(line, comments=True)[1] for line in lines[1:]]
        assert named == [
            f"XENNET_HOST={directory}",
            f"XENSTORED_PATH={directory}/xenstored-0.sock",
        ]
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in directory.iterdir()}
        assert {"control.sock", "lock", "xenstored-0.sock", "xenstored-1.sock"} <= set(modes)
        assert set(modes.values()) == {0o600}
        assert request(str(directory), "attach", {"domain": 1, "front": "gen:60x100"})["connected"]
        process.send_signal(signal.SIGINT)
        rest, stderr = process.communicate(timeout=SECONDS)
        assert (rest.partition(f" --host '{directory}' ")[0], stderr) in (
            ("  xennet exec", ""),
            ("", ""),  # where no memory can be shared
        )
        assert process.returncode == 0
        assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
        process.communicate()


def test_commands_act_on_it_from_elsewhere(host: HostProcess, tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    name = os.path.relpath(out)
    told = host.xennet("attach", "domU2", "--front", f"record:{name}")
    assert told.startswith(
        f"vif2.0  00:16:3e:00:00:02  connected  front record:{out} Connected (4)"
    )
    told = host.xennet("attach", "1", "--front", "gen:60x30", "--json")
    assert json.loads(told)["connected"]
    until(lambda: out.stat().st_size > 30 * 60)
    shown = host.xennet("list")
    assert shown.splitlines()[0] == "Name         ID  State"
    assert "domU1         1  running\n  vif1.0  00:16:3e:00:00:01  connected  front gen" in shown
    assert host.xennet("why", "1") == "vif1.0: nothing is in the way of traffic\n"
    told = host.xennet("attach", "1", "--front", "other")
    assert told.startswith("vif1.1  00:16:3e:01:00:01  not connected  front other Init")
    why = host.xennet("why", "1", "1", code=1)
    assert "the frontend is not Connected: /local/domain/1/device/vif/1/state" in why
    assert host.xennet("detach", "2") == "vif2.0 is gone\n"
    with closing(open_port(f"pcap:{out}")) as port:
        assert port.pull(FrameBatch(memoryview(bytearray(1 << 20)), 1000)) == 30
    made = host.xennet("create", "--name", "third")
    assert made.startswith("third is domain 3, its store is ")
    assert host.xennet("destroy", "third") == "third, domain 3, is gone\n"
    assert not os.path.exists(f"{host.directory}/xenstored-3.sock")
    assert host.xennet("detach", "1", "vif1.1", "--force") == "vif1.1 is gone by force\n"
    host.xennet("detach", "1", "0")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("attach", "7"), "no domain '7'; there are 0 (Domain-0), 1 (domU1), 2 (domU2)"),
        (("attach", "1", "--front", "bla:"), "port 'bla:': unknown, known are"),
        (("attach", "1", "--front", "pcap:-"), "a host has no standard input or output for it"),
        (("list", "--host", "/nowhere"), "/nowhere/control.sock: no host answers: No such file"),
    ],
)
def test_what_is_refused_is_one_line_and_exit_2(
    host: HostProcess, words: tuple[str, ...], said: str
) -> None:
    error = host.xennet(*words, code=2)
    assert error.startswith("xennet: ")
    assert said in error
    assert error.count("\n") == 1


def test_a_second_host_is_refused(host: HostProcess) -> None:
    error = host.xennet("--socket", host.directory, code=2)
    running = f"a host runs there (process {host.process.pid})"
    assert error == f"xennet: {host.directory}: {running}\n"
    assert ask(host, "list")["process"] == host.process.pid


# -- the end ---------------------------------------------------------------------------------------


def test_one_that_was_killed_is_taken_over_and_ended_by_its_successor(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    with host_process(directory, "--guests", "3") as first:
        ask(first, "attach", domain=1)
        first.process.kill()
        first.process.wait()
    assert len(os.listdir(directory)) >= 6
    with host_process(directory, "--guests", "1") as second:
        # What it left is gone before the last socket is there.
        until(lambda: not os.path.exists(directory / "xenstored-3.sock"), second.process)
        until(lambda: answers(directory), second.process)
        assert [one["domid"] for one in ask(second, "list")["domains"]] == [0, 1]
        ask(second, "attach", domain=1, front="other")
        assert second.end() == (0, "")
    assert os.listdir(directory) == []


def answers(directory: Path) -> bool:
    with suppress(Exception):
        return bool(request(str(directory), "list", {}))
    return False


def test_one_for_which_the_system_has_not_enough_leaves_nothing(tmp_path: Path) -> None:
    def few_descriptors() -> None:
        die_with_parent()
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    done = subprocess.run(
        [sys.executable, "-m", "xennet", "host", "--socket", tmp_path / "d", "--guests", "30"],
        env=environment(),
        text=True,
        capture_output=True,
        check=False,
        preexec_fn=few_descriptors,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "Too many open files" in done.stderr
    assert os.listdir(tmp_path / "d") == []


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with host_process(tmp_path / "d") as host, connected(host) as waiting:
        ask(host, "attach", domain=1, front="other", back="other")
        wait_forever = {"domain": 1, "front": "other", "wait": 600}
        waiting.sendall(encode({"command": "attach", "arguments": wait_forever}))
        until(lambda: len(ask(host, "list")["domains"][1]["vifs"]) == 2)
        host.process.send_signal(signal.SIGTERM)
        waiting.settimeout(SECONDS)
        assert waiting.recv(4096) == encode({"error": "the host ends"})
        code, stderr = host.end()
        assert (code, stderr) == (0, "")
    assert os.listdir(tmp_path / "d") == []


# -- programs in its domains -----------------------------------------------------------------------

#: Opens a device file, binds a port for domain 0, says its number, and waits. Without an argument
#: it opens none, and says 1.
PROGRAM = """
import fcntl, os, sys
if sys.argv[1:]:
    fd = os.open("/dev/xen/evtchn", os.O_RDWR)
    print(fcntl.ioctl(fd, int(sys.argv[1]), bytearray(4), True), flush=True)
else:
    print(1, flush=True)
sys.stdin.read()
"""


def program(host: HostProcess, domid: int, device: bool = True) -> subprocess.Popen[str]:
    words = ["exec", "--host", host.directory, "--domain", str(domid), "--", sys.executable]
    return subprocess.Popen(
        [sys.executable, "-m", "xennet", *words, "-c", PROGRAM]
        + [str(IOCTL_EVTCHN_BIND_UNBOUND_PORT)] * device,
        env=environment(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=die_with_parent,
    )


def test_programs_run_in_its_domains_and_end_with_them(tmp_path: Path, sharing: None) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    with ExitStack() as ends, host_process(tmp_path / "d", "--guests", "2") as host:
        assert [one["exec"] for one in ask(host, "list")["domains"]] == [
            f"{tmp_path}/d/exec-{domid}.sock" for domid in range(3)
        ]
        one, two, of_host = (program(host, domid) for domid in (1, 1, 0))
        without_device = program(host, 2, device=False)
        for started in one, two, of_host, without_device:
            ends.enter_context(started)
            ends.callback(started.kill)
            assert started.stdout is not None
            assert int(started.stdout.readline()) > 0
        # One ends by itself, one with its domain, one with the host; no port is left of any.
        assert one.stdin is not None
        one.stdin.close()
        assert one.wait(SECONDS) == 0
        ask(host, "destroy", domain=1)
        assert two.wait(SECONDS) == 128 + signal.SIGKILL
        assert of_host.poll() is without_device.poll() is None
        assert host.end(signal.SIGHUP) == (0, "")
        for left in of_host, without_device:
            assert left.wait(SECONDS) == 128 + signal.SIGKILL
    assert os.listdir(tmp_path / "d") == []


# -- its clients -----------------------------------------------------------------------------------


def connected(host: HostProcess) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(SECONDS)
    connection.connect(f"{host.directory}/control.sock")
    return connection


def test_clients_that_are_hostile_or_half_dead_stop_nobody(host: HostProcess) -> None:
    with ExitStack() as open_:
        silent = [open_.enter_context(connected(host)) for _ in range(MOST_CLIENTS + 10)]
        for number, one in enumerate(silent):
            with suppress(OSError):
                one.send((b"", b"\0" * 100, b'{"command":', b"{}\n[]\n")[number % 4])
        flood = open_.enter_context(connected(host))
        flood.setblocking(False)
        with suppress(BlockingIOError, OSError):
            for _ in range(2000):
                flood.send(encode({"command": "list"}) * 50)  # and reads nothing
        garbage = open_.enter_context(connected(host))
        garbage.sendall(b"hello\n")
        assert b"no request: a line that is no JSON" in garbage.recv(4096)
        assert garbage.recv(4096) == b""
        killed = subprocess.Popen(
            [sys.executable, "-m", "xennet", "host", "attach", "1", "--front", "other"]
            + ["--wait", "600", "--host", host.directory],
            env=environment(),
            preexec_fn=die_with_parent,
        )
        try:
            until(lambda: bool(ask(host, "list")["domains"][1]["vifs"]), killed)
        finally:
            killed.kill()
            killed.wait()
        assert ask(host, "why", domain=1)["name"] == "vif1.0"
    assert len(ask(host, "list")["domains"]) == 3
    ask(host, "detach", domain=1, force=True)


@TOOLS
def test_debian_s_tools_see_its_store_and_devices_that_nobody_attached_end_nothing(
    host: HostProcess,
) -> None:
    def tool(name: str, *words: str, domid: int = 0) -> str:
        done = subprocess.run(
            [f"xenstore-{name}", *words],
            env=environment(XENSTORED_PATH=f"{host.directory}/xenstored-{domid}.sock"),
            text=True,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        return done.stdout.rstrip() or done.stderr.rstrip()

    ask(host, "attach", domain=1)
    assert tool("read", "/local/domain/1/device/vif/0/state") == "4"
    assert tool("list", "/local/domain").split() == ["0", "1", "2"]
    # A program of a guest has that guest's rights, and its relative paths.
    assert tool("read", "device/vif/0/state", domid=1) == "4"
    assert tool("write", "/tool/x", "1", domid=1) == "xenstore-write: could not write path /tool/x"
    for handle in ("7", "-1", "07", "x", "99999999999"):
        for path in (
            f"/local/domain/1/device/vif/{handle}",
            f"/local/domain/0/backend/vif/1/{handle}",
            f"/local/domain/0/backend/qnic/1/{handle}",
            f"/local/domain/0/backend/vif/{handle}/0",
        ):
            assert tool("write", f"{path}/state", "1") == ""
    assert ask(host, "why", domain=1)["why"] == []
    assert tool("rm", "/local/domain/1/device/vif/7") == ""
    ask(host, "detach", domain=1)


def test_pyxs_uses_its_store(host: HostProcess) -> None:
    pyxs = pytest.importorskip("pyxs")
    with pyxs.Client(unix_socket_path=f"{host.directory}/xenstored-2.sock") as client:
        assert client.read(b"domid") == b"2"
        client[b"data/x"] = b"1"
        with pytest.raises(pyxs.PyXSError):
            client[b"/local/domain/1/data/x"] = b"1"


def test_a_guest_s_programs_lose_their_store_with_it(host: HostProcess) -> None:
    domid = ask(host, "create")["domid"]
    client = Client.connect(f"{host.directory}/xenstored-{domid}.sock", timeout=SECONDS)
    assert client.read("domid") == str(domid).encode()
    assert ask(host, "destroy", domain=domid)["gone"]
    with pytest.raises(XsError):
        client.read("domid")
    assert not os.path.exists(f"{host.directory}/xenstored-{domid}.sock")
