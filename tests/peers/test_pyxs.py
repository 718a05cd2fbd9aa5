"""pyxs, a Python client of XenStore, through /dev/xen/xenbus: as domain 0 and as a guest."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from peer_world import PeerWorld

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pyxs") is None, reason="pyxs is not installed"
)

PROGRAM = """
import os, sys, pyxs

domid = int(sys.argv[1])
with pyxs.Client(xen_bus_path="/dev/xen/xenbus") as c:
    home = c.get_domain_path(domid)
    assert home == b"/local/domain/%d" % domid, home
    data = home + b"/data"
    c.write(data + b"/hello", b"from pyxs")
    assert c.read(data + b"/hello") == b"from pyxs"
    assert c.list(data) == [b"hello"]
    assert c.get_perms(data + b"/hello")[0] == b"n%d" % domid
    c.transaction()
    c.write(data + b"/more", b"1")
    c.commit()
    assert sorted(c.list(data)) == [b"hello", b"more"]
    c.mkdir(data + b"/deep/er")
    assert c.exists(data + b"/deep/er")
    c.delete(data + b"/deep")
    assert not c.exists(data + b"/deep/er")
    assert (c.read(b"/local/domain/1/name") if domid == 0 else c.read(b"name")) == b"one"
    try:
        c.write(b"/tool/x", b"1")
        assert domid == 0, "a guest wrote there"
    except pyxs.PyXSError as refusal:
        assert domid and refusal.args[0] == 13, refusal
    try:
        c.read(b"/nothing")
        assert False
    except pyxs.PyXSError as refusal:
        assert refusal.args[0] == (13 if domid else 2), refusal
"""


@pytest.mark.parametrize("domid", [0, 1])
def test_pyxs_reads_and_writes_as_the_domain_it_runs_in(world: PeerWorld, domid: int) -> None:
    world.add_guest(name="one")
    world.host.store.mkdir("/local/domain/0/data")
    world.succeed(world.launch(domid, [sys.executable, "-c", PROGRAM, str(domid)], by_socket=False))
    data = f"/local/domain/{domid}/data"
    assert world.node(f"{data}/hello") == "from pyxs"
    assert world.node(f"{data}/more") == "1"
    assert world.node("/tool/x") == ("" if domid else "1")
