"""What xennet-guest.h promises; who may be a domain's kernel; programs that mean harm."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from foreign_world import World

from xennet.abi.sched import SHUTDOWN_crash, SHUTDOWN_reboot

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


def test_a_vif_that_is_left_to_a_program_in_a_domain_that_has_booted(worlds: MakeWorld) -> None:
    world = worlds()
    guest = world.host.add_guest()
    world.serve(guest)
    world.host.boot()
    world.settle()
    vif, _, end = world.plug(guest, guest_served=False)
    program = world.start("netfront", 1, "-e", "-n", 20)
    world.connect(vif)
    end.to_send += [bytes([n]) * 600 for n in range(20)]
    vif.kick_host()
    assert world.finish(program) == 0
    assert end.received == [bytes([n]) * 600 for n in range(20)]
    guest.destroy()
    world.hold(lambda: world.host.machine.domain_info(1) is None)


def test_where_the_header_is(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "xennet", "exec", "--include"], capture_output=True, text=True
    )
    folder = Path(said.stdout.strip())
    assert {path.name for path in folder.iterdir()} == {"xennet-guest.c", "xennet-guest.h"}
