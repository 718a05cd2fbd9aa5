"""What an option allows works or is refused at once; what is full is named, with whose it is."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from vif_peers import Stack

from xennet.cli import main
from xennet.errors import LimitError, LinkError
from xennet.host.capacity import Capacity
from xennet.host.host import Host
from xennet.host.limits import require_room
from xennet.host.setup import Setup
from xennet.interface import HypercallError
from xennet.lifecycle.why import why
from xennet.link.vifs import Vifs
from xennet.netback.policies import policy
from xennet.netback.policy import VifOptions
from xennet.netfront.kinds import KINDS
from xennet.netfront.options import NetfrontOptions
from xennet.port import open_ports
from xennet.run.links import run_ports
from xennet.run.options import RunOptions
from xennet.run.progress import no_progress
from xennet.xenstore import Quota

#: Who, which quota, which limit.
FULL = r"{} has used up a quota of the store: it would come to \d+ of \"{}\", the limit is {}"

# --- before a run ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "backend", "queues", "split", "mtu"),
    [
        ("linux", "linux", 1, True, None),
        ("linux", "linux", 8, True, 9000),
        ("linux", "xnb", 1, True, None),
        ("freebsd", "linux", 2, False, None),
        ("windows", "linux", 4, False, None),
    ],
)
def test_the_nodes_that_guests_need_are_known_before(kind, backend, queues, split, mtu) -> None:
    """A commit has to stay below the quota, so one more than is needed is the least that works."""
    setup = {
        "guests": 1,
        "vifs": 3,
        "kind": KINDS[kind],
        "front": NetfrontOptions(queues=queues, split=split),
        "policy": policy(backend),
        "back": VifOptions(max_queues=queues, split_channels=split) if backend == "linux" else None,
        "mtu": mtu,
    }
    vifs = Vifs(Setup(**setup))
    for _ in range(3):
        vifs.join(Stack(), Stack())
    vifs.open()
    needed = vifs.host.service.store.nodes_owned(1)
    vifs.destroy()
    with pytest.raises(LimitError, match=f"takes {needed} nodes of the XenStore"):
        require_room(Setup(**setup, quota=Quota(nodes=needed)))
    vifs = Vifs(Setup(**setup, quota=Quota(nodes=needed + 1)))
    for _ in range(3):
        vifs.join(Stack(), Stack())
    vifs.open()
    vifs.close()
    assert not vifs.leaks()
    vifs.destroy()


def test_as_many_vifs_as_the_real_quota_allows() -> None:
    require_room(Setup(vifs=51))
    with pytest.raises(LimitError, match=r'stay below 1000 \(quota "nodes"'):
        require_room(Setup(vifs=52))


def test_a_command_beyond_the_quota_is_refused_at_once(capsys, tmp_path) -> None:
    out = tmp_path / "out.pcap"
    args = ["run", "--vifs", "64", "--guest", "gen:60x1", "--host", f"record:{out}"]
    assert main(args) == 2
    said = capsys.readouterr().err
    assert "with 64 vifs of 1 queue a guest takes 1228 nodes" in said
    assert "--quota-nodes" in said
    assert not out.exists()


def test_a_higher_quota_lets_it_run(capsys) -> None:
    few = ["run", "--quiet", "--vifs", "3", "--guest", "gen:60x1", "--host", "null:"]
    assert main([*few, "--quota-nodes", "60"]) == 2
    assert main([*few, "--quota-nodes", "0"]) == 0


def test_a_machine_that_the_host_has_no_memory_for_is_refused_at_once(capsys, monkeypatch) -> None:
    def full(size: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("xennet.memory.mmap.mmap", lambda *args: full(args[1]))
    args = ["run", "--guests", "125", "--vifs", "8", "--queues", "8", "--guest", "gen:60x1"]
    assert main([*args, "--host", "null:"]) == 2
    assert (
        "125 guests with 8 vifs of 8 queues each: no arena of 40704 MiB" in capsys.readouterr().err
    )


def test_ports_and_grants_suffice_for_the_most_that_options_ask_for() -> None:
    """64 vifs of 8 queues: two channels and two rings each, a control ring, 256 + 256 frames."""
    capacity = Capacity(vifs=64, queues=8)
    assert capacity.max_grant_frames * 256 >= 64 * (8 * (2 + 256 + 256) + 1)
    host = Host(capacity)
    assert host.machine.channels.bits(0).nr_ports > 1000 * (2 * 8 + 1) + 1000
    assert 64 * (2 * 8 + 1) + 1 < 4096  # of a guest, by the 2-level ABI too
    host.destroy()


# --- what is full while it lasts ------------------------------------------------------------------


def plugged_until_it_fails(host: Host, **options):
    for _ in range(9):
        guest = host.add_guest()
        guest.boot()
        vif = host.plug(guest, 0, Stack(), Stack(), **options)
        host.settle()
        if not vif.connected:
            return vif
    raise AssertionError("nothing was ever full")


def test_why_names_the_quota_of_a_driver_domain_that_is_full() -> None:
    host = Host(Capacity(guests=9), quota=Quota(nodes=100))
    owner = host.add_driver_domain(name="fw")
    owner.load()
    vif = plugged_until_it_fails(host, backend_domid=owner.domid)
    reasons = why(vif)
    assert len(reasons) <= 10
    (named,) = (line for line in reasons if "quota" in line)
    assert re.fullmatch(FULL.format(re.escape("domain 1 (fw)"), "nodes", 100), named)
    with pytest.raises(LinkError) as failed:
        host.require_connected(vif)
    assert named in str(failed.value)


def test_why_names_the_quota_of_a_guest_that_is_full() -> None:
    host = Host(quota=Quota(nodes=20))
    host.dom0.load()
    vif = plugged_until_it_fails(host)
    (named,) = (line for line in why(vif) if "quota" in line)
    assert re.fullmatch(FULL.format(re.escape("domain 1 (domU1)"), "nodes", 20), named)


def test_why_names_a_grant_table_that_is_full() -> None:
    class Small(Capacity):
        max_grant_frames = 2

    host = Host(Small())
    host.dom0.load()
    guest = host.add_guest()
    guest.boot()
    vifs = [host.plug(guest, handle, Stack(), Stack()) for handle in range(2)]
    host.settle()
    assert [vif.connected for vif in vifs] == [True, False]
    assert "3 frames of domain 1, which may have 2" in "\n".join(why(vifs[1]))


@pytest.mark.parametrize("full", [0, 1])
def test_why_names_a_domain_that_has_no_port_left(full: int) -> None:
    host = Host(backend_evtchn="2l")
    host.dom0.load()
    guest = host.add_guest(evtchn_abi="2l")
    guest.boot()
    with suppress(HypercallError):
        while True:
            host.machine.domain(full).bind_ipi(0)
    vif = host.plug(guest, 0, Stack(), Stack())
    host.settle()
    said = "\n".join(why(vif))
    assert f"all 4096 ports of domain {full} are in use" in said
    assert f"/error/{'backend/vif/1' if full == 0 else 'device/vif'}/0/error" in said


def test_a_quota_that_stood_in_nobodys_way_any_more_is_not_named() -> None:
    host = Host(quota=Quota(nodes=20))
    host.dom0.load()
    vif = plugged_until_it_fails(host)
    host.service.store.set_quota(Quota())
    vif.guest.unload()
    host.settle()
    vif.guest.load()
    host.settle()
    assert vif.connected
    assert why(vif) == []


def test_a_run_that_meets_a_full_quota_says_so_in_few_lines_and_takes_all_down(monkeypatch) -> None:
    monkeypatch.setattr("xennet.link.vifs.require_room", lambda setup: None)
    guests, hosts = open_ports(["gen:60x5"] * 9), open_ports(["null:"] * 9)
    options = RunOptions(vifs=9, quota_nodes=120)
    with no_progress() as progress:
        report = run_ports(guests, hosts, options, progress)
    reasons = report.verdict.reasons
    assert not report.verdict.good
    assert len("\n".join(reasons).splitlines()) <= 10
    assert re.search(FULL.format(re.escape("domain 1 (domU1)"), "nodes", 120), reasons[0])
    assert reasons[1:] == ("no frame was carried",)
