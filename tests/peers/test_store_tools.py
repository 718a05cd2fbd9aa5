"""Debian's own tools of the store, by their socket and by /dev/xen/xenbus."""

from __future__ import annotations

import os
import shutil

import pytest
from peer_world import PeerWorld

from xennet.bench.real_xenstored import Prepared


@pytest.mark.parametrize("by_socket", [True, False])
def test_its_own_test_passes(world: PeerWorld, xen_utils: Prepared, by_socket: bool) -> None:
    """test-xenstore: reading, writing, directories, transactions with and without conflicts."""
    env = {**os.environ, "LD_LIBRARY_PATH": str(xen_utils.libraries)}
    words = [str(xen_utils.daemon.with_name("test-xenstore")), "-i", "20"]
    program = world.launch(0, words, by_socket=by_socket, env=env)
    world.succeed(program)
    assert len(world.output(program).splitlines()) == 12


@pytest.mark.skipif(shutil.which("xenstore-ls") is None, reason="xenstore-ls is missing")
@pytest.mark.parametrize("by_socket", [True, False])
def test_a_guest_sees_what_is_its_own(world: PeerWorld, by_socket: bool) -> None:
    world.add_guest(name="one")

    def run(*words: str) -> tuple[int, str]:
        program = world.launch(1, words, by_socket=by_socket)
        world.wait_for(program)
        return program.returncode, world.output(program)

    assert run("xenstore-write", "data/a", "hello", "data/b", "") == (0, "")
    assert run("xenstore-ls", "data") == (0, 'a = "hello"\nb = ""\n')
    assert run("xenstore-read", "name", "/local/domain/1/domid") == (0, "one\n1\n")
    status, said = run("xenstore-write", "/tool/x", "1")
    assert (status, said) == (1, "xenstore-write: could not write path /tool/x\n")
    assert run("xenstore-chmod", "data/a", "n1", "r0") == (0, "")
    assert world.host.store.get_perms("/local/domain/1/data/a") == ["n1", "r0"]
