"""What xennet-guest.h promises; who may be a domain's kernel; programs that mean harm."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from foreign_world import PATIENCE, World

from xennet.abi.sched import SHUTDOWN_crash, SHUTDOWN_reboot
from xennet.exec.launch import launch
from xennet.exec.own_host import socket_paths

MakeWorld = Callable[..., World]


def test_everything_that_the_header_promises(worlds: MakeWorld) -> None:
    world = worlds()
    guest = world.guest()
    program = world.start("guest_calls", 1)
    status = world.finish(program)
    assert program.said == "ok\n"
    assert status == SHUTDOWN_reboot
    info = world.host.machine.domain_info(1)
    assert info is not None
    assert info.shutdown == SHUTDOWN_reboot
    guest.destroy()


def test_domain_0_and_domains_with_a_kernel_are_refused(worlds: MakeWorld) -> None:
    world = worlds()
    world.serve(world.host.dom0)
    booted = world.host.add_guest()
    world.serve(booted)
    world.plug(booted)
    world.host.boot()
    world.settle()
    for domid, error in ((0, errno.EPERM), (1, errno.EBUSY)):
        program = world.start("guest_calls", domid, "start")
        assert world.finish(program) == 0
        assert program.said == f"{-error}\n"
    assert booted.domain.running
    booted.destroy()
    world.hold(lambda: world.host.machine.domain_info(1) is None)


def test_outside_of_a_domain_there_is_no_kernel(programs: dict[str, str]) -> None:
    said = subprocess.run([programs["guest_calls"], "start"], capture_output=True, check=True)
    assert said.stdout == f"{-errno.ENOENT}\n".encode()


@pytest.mark.parametrize("seed", range(3))
def test_a_hostile_kernel_harms_nobody_else(worlds: MakeWorld, seed: int) -> None:
    world = worlds()
    hostile, peer = world.guest(), world.guest()
    used = world.host.machine.memory.used
    page = peer.kernel.alloc_pages(1)
    page.u8[:4] = b"mine"
    program = world.start("hostile_guest", 1, seed + 1, 3000)
    world.finish(program)
    assert program.said == "survived\n"
    assert bytes(page.u8[:8]) == b"mine\0\0\0\0"
    info = world.host.machine.domain_info(1)
    assert info is not None
    assert info.shutdown == SHUTDOWN_crash
    hostile.destroy()
    world.hold(lambda: world.host.machine.domain_info(1) is None)
    peer.kernel.free_pages(page)
    assert world.host.machine.memory.used < used


def test_the_bench_that_the_document_shows(programs: dict[str, str]) -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs" / "foreign.md").read_text()
    shown = re.search(r"```py\n(.*?)```\n\n```text\n(.*?)```", text, re.S)
    assert shown is not None
    ran = subprocess.run(
        [sys.executable, "-c", shown[1]],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "XENNET_ENGINE": "plain"},
        capture_output=True,
        text=True,
    )
    assert (ran.stdout, ran.stderr) == (shown[2], "")


def test_a_host_that_stays_up_serves_both_examples(
    programs: dict[str, str], tmp_path: Path
) -> None:
    place = str(tmp_path / "host")
    host = subprocess.Popen(
        [sys.executable, "-m", "xennet", "host", "--socket", place, "--guests", "2"],
        stdout=subprocess.PIPE,
    )
    assert host.stdout is not None
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    try:
        host.stdout.readline()  # its sockets are there now
        client.connect(f"{place}/control.sock")
        answers = client.makefile("r")

        def ask(command: str, **arguments: object) -> dict[str, Any]:
            client.sendall(
                json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"
            )
            answer = json.loads(answers.readline())
            assert "error" not in answer, answer
            return dict(answer["result"])

        def run(name: str, domid: int, *words: str) -> str:
            program = launch(
                [programs[name], *words], *socket_paths(place, domid), stdout=subprocess.PIPE
            )
            try:
                said, _ = program.communicate(timeout=PATIENCE)
            finally:
                program.kill()
            assert not program.returncode
            return said.decode()

        ask("attach", domain="1", front="other", back="gen:600x100", wait=0)
        ask("attach", domain="2", front="gen:600x100", back="other", wait=0)
        said = run("netfront", 1, "-e", "-n", "100")
        assert "100 sent, 100 received (60000 bytes), 0 failed" in said
        said = run("netback", 0, "-d", "2", "-e", "-n", "100")
        assert "100 received (60000 bytes), 100 given, 0 failed" in said
        states = {domain["domid"]: domain["state"] for domain in ask("list")["domains"]}
        assert states == {0: "running", 1: "powered off", 2: "running"}
        ask("destroy", domain="1")
        host.terminate()
        assert host.wait(PATIENCE) == 0
    finally:
        client.close()
        host.kill()
        host.wait()
        host.stdout.close()


def test_where_the_header_is(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "xennet", "exec", "--include"], capture_output=True, text=True
    )
    folder = Path(said.stdout.strip())
    assert {path.name for path in folder.iterdir()} == {"xennet-guest.c", "xennet-guest.h"}
