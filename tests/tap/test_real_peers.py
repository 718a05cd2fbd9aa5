"""Two network stacks talk through a run: ping, iperf3, IPv6, with and without each offload."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from namespaces import ip, namespace, why_none

from xennet.tap.namespace import within

_WHY = why_none("ping", "iperf3")
pytestmark = pytest.mark.skipif(bool(_WHY), reason=_WHY or "-")

#: Seconds until a thing that has to happen counts as one that does not.
PATIENCE = 60.0
ADDRESSES = (("10.77.0.1", "fd77::1"), ("10.77.0.2", "fd77::2"))
#: Options of the runs, and the bytes that iperf3 sends through each of them.
RUNS = {
    "all": ((), "60M"),
    "no gso": (("--no-gso",), "8M"),
    "no csum": (("--no-csum",), "8M"),
    "no sg": (("--no-sg",), "8M"),
    "mtu": (("--mtu", "9000"), "60M"),
    "mtu without sg": (("--mtu", "9000", "--no-sg"), "8M"),
    "queues": (("--queues", "4"), "20M"),
    "epair": (("--link", "epair"), "8M"),
    "epair:taskqueue": (("--link", "epair:taskqueue"), "20M"),
}


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[str, str]]:
    """Two namespaces."""
    with namespace(ipv6=True) as one, namespace(ipv6=True) as other:
        yield one, other


class LiveRun:
    """``xennet run`` between an interface of each namespace, which have their addresses, in the
    background; frames pass."""

    def __init__(self, both: tuple[str, str], *options: str) -> None:
        self.both = both
        ports = ("--guest", f"tap:guest0@{both[0]}", "--host", f"tap:host0@{both[1]}")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "xennet", "run", *ports, "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XENNET_ENGINE": "plain"},
        )
        try:
            for netns, name, addresses in zip(both, ("guest0", "host0"), ADDRESSES, strict=True):
                wait_for(lambda netns=netns, name=name: f"{name}:" in ip(netns, "link", "show"))
                ip(netns, "address", "add", f"{addresses[0]}/24", "dev", name)
                ip(netns, "address", "add", f"{addresses[1]}/64", "dev", name, "nodad")
            wait_for(lambda: "1 received" in self.ping("-c", "1", "-W", "1", ADDRESSES[1][0]))
        except BaseException:
            self.process.kill()
            self.process.communicate()
            raise

    def ping(self, *words: str) -> str:
        """What ping says in the guest's namespace."""
        command = ["ip", "netns", "exec", self.both[0], "ping", "-q", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE).stdout

    def answered(self, count: int, *words: str) -> bool:
        """Whether ``count`` pings get as many answers. ping itself goes soon after the last one was
        sent, and would miss an answer that a busy machine delays."""
        before = self._answers()
        self.ping("-c", str(count), *words)
        return wait_for(lambda: self._answers() >= before + count)

    def _answers(self) -> int:
        told = counters(self.both[0])
        return told["Icmp:InEchoReps"] + told["Icmp6InEchoReplies"]

    def iperf3(self, *words: str) -> dict[str, Any]:
        """The report of iperf3 in the guest's namespace, against one in the host's."""
        server = subprocess.Popen(
            ["ip", "netns", "exec", self.both[1], "iperf3", "-s", "-1", "--forceflush"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        try:
            while "listening" not in server.stdout.readline():
                assert server.poll() is None
            client = ["ip", "netns", "exec", self.both[0], "iperf3", "-J", *words]
            done = subprocess.run(client, capture_output=True, text=True, timeout=PATIENCE)
            assert done.returncode == 0, done.stdout
            server.stdout.read()
            report: dict[str, Any] = json.loads(done.stdout)
            return report
        finally:
            server.kill()
            server.communicate()

    def end(self, number: int) -> tuple[int, str]:
        """End the run by a signal. Returns its exit code (less than 0: a signal) and its report."""
        self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=PATIENCE)
        assert stderr == ""
        return self.process.returncode, stdout


def wait_for(what: Any) -> bool:
    """Wait until ``what()`` is true. Returns True."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)
    return True


def counters(netns: str) -> dict[str, int]:
    """What the kernel has counted in a namespace, for IPv4 and IPv6."""
    net = Path("/proc/thread-self/net")
    lines = within(netns, (net / "snmp").read_text).splitlines()
    found = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        kind = names.split()[0]
        found |= {
            f"{kind}{name}": int(value)
            for name, value in zip(names.split()[1:], values.split()[1:], strict=True)
        }
    for line in within(netns, (net / "snmp6").read_text).splitlines():
        name, value = line.split()
        found[name] = int(value)
    return found


def checksum_errors(netns: str) -> dict[str, int]:
    """The counters of wrong checksums of a namespace."""
    return {name: count for name, count in counters(netns).items() if name.endswith("CsumErrors")}


def left_of(both: tuple[str, str]) -> list[str]:
    """The interfaces of both namespaces but lo."""
    lines = [line for netns in both for line in ip(netns, "-brief", "link", "show").splitlines()]
    return [line for line in lines if not line.startswith("lo ")]


@pytest.mark.parametrize("name", RUNS)
def test_two_stacks_talk(both: tuple[str, str], name: str) -> None:
    options, amount = RUNS[name]
    run = LiveRun(both, *options)
    (_, _), (v4, v6) = ADDRESSES
    try:
        assert run.answered(100, "-i", "0.002", v4)
        for address in v4, v6:
            assert run.answered(20, "-i", "0.002", "-s", "8000", address)
        for words in ((v4,), (v4, "-R"), (v6,)):
            report = run.iperf3("-n", amount, "-c", *words)
            assert report["end"]["sum_received"]["bytes"] > 0
        # Fewer datagrams than a queue of an interface or a socket keeps, however late it is read.
        report = run.iperf3("-u", "-b", "50M", "-n", "100K", "-c", v4)
        assert report["end"]["sum"]["lost_percent"] == 0
    finally:
        code, stdout = run.end(signal.SIGTERM)
    told = json.loads(stdout)
    assert (told["verdict"]["good"], code) == (True, 128 + signal.SIGTERM), told["verdict"]
    for counters in (port["counters"] for port in told["ports"]):
        assert counters["refused_headers"] == counters["refused_by_kernel"] == 0
    assert [netns for netns in both if any(checksum_errors(netns).values())] == []
    assert left_of(both) == []
    if name in ("no gso", "no csum", "no sg", "epair"):
        for counters in (port["counters"] for port in told["ports"]):
            assert counters["bytes_in"] <= counters["frames_in"] * 1514  # no super-frame came


def test_what_the_kernel_sends_by_itself_fits_a_small_mtu(both: tuple[str, str]) -> None:
    ports = ("--guest", f"tap:guest0@{both[0]}", "--host", f"tap:host0@{both[1]}")
    words = ("--mtu", "68", "--for", "0.5", "--quiet", "--allow-empty")
    done = subprocess.run(
        [sys.executable, "-m", "xennet", "run", *ports, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "XENNET_ENGINE": "plain"},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_was_ended(
    both: tuple[str, str], number: signal.Signals
) -> None:
    run = LiveRun(both)
    code, stdout = run.end(number)
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 128 + number
        assert json.loads(stdout)["verdict"]["good"]
    wait_for(lambda: left_of(both) == [])
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert {line.split()[0] for line in listed.stdout.splitlines()} >= set(both)


def test_an_interface_that_is_deleted_ends_the_run_with_an_error(both: tuple[str, str]) -> None:
    run = LiveRun(both)
    ip(both[0], "link", "del", "guest0")
    stdout, stderr = run.process.communicate(timeout=PATIENCE)
    assert run.process.returncode == 2
    assert stderr.startswith(f"xennet: tap guest0 in {both[0]}: ")
    assert stderr.endswith("; was it deleted?\n")
    assert stdout == ""
    assert left_of(both) == []
