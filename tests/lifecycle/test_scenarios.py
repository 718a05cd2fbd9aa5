"""Every scenario ends as it should, and one that stops half way says why."""

from __future__ import annotations

import re

import pytest
from attrs import evolve

from xennet.cli import main
from xennet.host.host import Host
from xennet.lifecycle.scenarios import SCENARIOS, perform, play, reconnects
from xennet.lifecycle.scene import Scene
from xennet.lifecycle.transcript import Entry
from xennet.netback.policy import LINUX, VifOptions
from xennet.netback.xnb.policy import XNB
from xennet.netfront.kinds import FREEBSD, WINDOWS, FrontendKind
from xennet.netfront.options import DEFAULTS
from xennet.ring import BackRing, SharedRing
from xennet.toolstack.toolstack import Toolstack

LONG = "reconnect-1000"
BLOCKED = [name for name, scenario in SCENARIOS.items() if scenario.blocked]

#: What stops a guest with xenvif, which does not look for copies and wants a close cycle first.
OF_WINDOWS = {"no-rx-copy": "", "early-init-wait": "{frontend}/state = Closing (5)"}


@pytest.fixture(autouse=True)
def _few_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnects, "RECONNECTS", 8)


def told(name: str) -> list[str]:
    lines: list[str] = []
    assert perform(SCENARIOS[name], lines.append), "\n".join(lines)
    return lines


def transcript(name: str) -> list[Entry]:
    things: list[Entry] = []
    assert play(SCENARIOS[name], things.append).good, things[-1]
    return things


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_ends_as_it_should(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["lifecycle", name])
    out = capsys.readouterr().out
    assert code == 0, out
    blocked = "the vif is blocked, as it should be here, and a reason names "
    passes = "traffic passes, as it should; "
    assert f"\nGOOD: {blocked if SCENARIOS[name].blocked else passes}" in out
    assert out.endswith("; nothing is left behind\n")
    assert re.search(r"^States: frontend/state", out, re.MULTILINE)
    assert "no domain holds anything" in out


@pytest.mark.parametrize("kind", [FREEBSD, WINDOWS], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_linux_backend_lets_every_kind_of_guest_end_as_it_should(
    name: str, kind: FrontendKind
) -> None:
    lines: list[str] = []
    scenario = SCENARIOS[name]
    blocked = OF_WINDOWS.get(name, scenario.blocked) if kind is WINDOWS else scenario.blocked
    scenario = evolve(scenario, kind=kind, policy=LINUX, blocked=blocked)
    assert perform(scenario, lines.append), lines[-1]


@pytest.mark.parametrize("name", ["save-restore", "migration"])
def test_a_guest_of_xnb_moves_to_a_fresh_one(name: str) -> None:
    # It could not start over with the same one (defect C4).
    lines: list[str] = []
    assert perform(evolve(SCENARIOS[name], policy=XNB), lines.append), lines[-1]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_transcript_is_the_same_every_time_and_names_no_machine(name: str) -> None:
    lines = told(name)
    assert lines == told(name)
    assert not [line for line in lines if re.search(r"0x[0-9a-f]{6,}|/tmp|/home|/work", line)]


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("no-script-answer", "/local/domain/0/backend/vif/1/0/hotplug-status"),
        ("script-fails", '/hotplug-error = "bridge xbr0 does not exist"'),
        ("garbage-ring-ref", "/local/domain/1/device/vif/0/tx-ring-ref"),
        ("missing-event-channel", "/local/domain/1/device/vif/0/event-channel"),
        ("garbage-mac", "device/vif/0/mac: is not a MAC address (found b'junk')"),
        ("no-rx-copy", '/local/domain/0/backend/vif/1/0/feature-rx-copy = "0"'),
        ("early-init-wait", "backend/vif/1/0/feature-rx-copy: cannot be read: ENOENT; it is "),
        ("guest-closes", "/local/domain/1/device/vif/0/state = Closed (6)"),
        ("toolstack-detaches", "/local/domain/1/device/vif/0 does not exist"),
        ("backend-closes", "/local/domain/0/backend/vif/1/0/state = Closed (6)"),
        ("straight-to-closed", "/local/domain/1/device/vif/0/state = Closed (6)"),
        ("directory-removed", "/local/domain/0/backend/vif/1/0 does not exist"),
        ("frontend-directory-removed", "/local/domain/1/device/vif/0 does not exist"),
        ("driver-domain-crash", "domain 2, which has the backend, does not run"),
        ("guest-crash", "domain 1, which has the frontend, does not run"),
        ("backend-reload-without-udev", "backend/vif/1/0/hotplug-status does not exist"),
        ("hostile-packet", "packets for it that were dropped: 10)"),
        ("hostile-response", "[B1; raw word 00001388]"),
        ("guest-stops-receiving", "queue 0 of vif1.0: the guest has posted no receive buffers"),
        ("rate-limited", '/rate = "100,1000000"'),
    ],
)
def test_a_scenario_that_stops_names_the_node_or_counter(name: str, node: str) -> None:
    assert [told for told in transcript(name) if told.kind == "reason" and node in told.text]


def test_every_blocked_scenario_is_in_the_table_of_expected_nodes() -> None:
    marks = test_a_scenario_that_stops_names_the_node_or_counter.pytestmark
    assert sorted(row[0] for row in marks[0].args[1]) == sorted(BLOCKED)


def test_a_slow_script_is_named_only_until_it_has_answered() -> None:
    lines = told("slow-script")
    assert sum("hotplug script has not answered" in line for line in lines) == 1
    assert lines.index("Traffic can pass.") > lines.index("Now the hotplug script runs.")


def test_a_scenario_that_does_not_end_as_it_should_is_bad() -> None:
    lines: list[str] = []
    assert not perform(evolve(SCENARIOS["guest-closes"], blocked=""), lines.append)
    assert lines[-1] == "BAD: the vif is blocked; frames were lost"
    assert not perform(evolve(SCENARIOS["suspend-resume"], blocked="a node"), lines.append)
    assert lines[-1] == "BAD: no reason names a node"


def test_a_thousand_connections_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnects, "RECONNECTS", 1000)
    lines = told(LONG)
    assert sum(line.endswith("before the same.") for line in lines) == 5


@pytest.mark.parametrize(
    ("what", "leak"),
    [
        ("Domain 1", lambda scene, n: scene.guest.kernel.alloc_pages(1)),
        ("Domain 0", lambda scene, n: scene.host.dom0.kernel.alloc_unbound(1)),
        ("Domain 1 in the store", lambda scene, n: scene.guest.kernel.store.write(f"data/{n}", n)),
        (
            "Domain 0 in the store",
            lambda scene, n: scene.host.store.watch("data", f"{n}", lambda path, token: None),
        ),
        ("The run loop", lambda scene, n: scene.guest.kernel.call_after(n, lambda: None)),
    ],
)
def test_whatever_grows_by_one_each_time_is_named(what: str, leak, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    settled = Scene.settle
    rounds = iter(range(1, 1000))

    def settle_and_leak(scene: Scene) -> None:
        settled(scene)
        leak(scene, next(rounds))

    monkeypatch.setattr(Scene, "settle", settle_and_leak)
    monkeypatch.setattr(reconnects, "RECONNECTS", 2)
    lines: list[str] = []
    assert not perform(SCENARIOS[LONG], lines.append)
    assert any(line.startswith(f"It should be so, but is not: {what}: ") for line in lines)


def test_python_objects_that_each_connection_leaves_behind_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconnects, "RECONNECTS", 60)
    left, settled = [], Scene.settle
    monkeypatch.setattr(Scene, "settle", lambda scene: (settled(scene), left.append([])))
    lines: list[str] = []
    assert not perform(SCENARIOS[LONG], lines.append)
    assert lines[-1] == "BAD: not so: Python has at most 50 objects more."


@pytest.mark.parametrize("name", ["save-restore", "migration", "backend-reload-same-rings"])
def test_a_backend_that_initialises_the_shared_page_loses_the_posted_buffers(name: str) -> None:
    # mirage-net-xen PR 68: only the frontend may, and it has posted buffers by then.
    def init(shared: SharedRing) -> BackRing:
        shared.req_prod = shared.rsp_prod = 0
        return BackRing.init(shared)

    lines: list[str] = []
    bad = evolve(LINUX, attach=init)
    assert not perform(evolve(SCENARIOS[name], policy=bad), lines.append)
    assert lines[-1].startswith("BAD: ")


@pytest.mark.parametrize(
    ("name", "change", "wrong"),
    [
        ("carrier-lost", {"front": DEFAULTS}, "/carrier = 0 on the way"),
        (
            "stalled-queue",
            {"policy": evolve(LINUX, options=VifOptions(stall_timeout=0))},
            "no reason named queue 0 of vif1.0 is stalled on the way",
        ),
        ("slow-script", {"policy": XNB}, "hotplug script has not answered on the way"),
        ("suspend-resume", {"policy": XNB}, "The 10 frames that waited outside of the rings"),
        ("backend-reload-same-rings", {"policy": XNB}, "The backend finds 0 buffers"),
        ("garbage-mac", {"blocked": ""}, "the vif is blocked"),
    ],
)
def test_drivers_that_do_not_do_what_a_scenario_shows_make_it_bad(
    name: str, change: dict[str, object], wrong: str
) -> None:
    lines: list[str] = []
    assert not perform(evolve(SCENARIOS[name], **change), lines.append)
    assert lines[-1].startswith("BAD: ")
    assert wrong in lines[-1]


def test_a_source_that_keeps_the_old_domain_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "destroy_guest", lambda self, domid: None)
    lines: list[str] = []
    assert not perform(SCENARIOS["migration"], lines.append)
    assert "not so: On the source, " in lines[-1]
    assert "teardown left something behind" in lines[-1]


def test_a_node_of_the_vif_that_the_toolstack_forgets_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detach = Toolstack.detach_vif

    def and_write(self: Toolstack, domid: int, handle: int, **options: object) -> None:
        node = f"/libxl/{domid}/device/vif/{handle}/late"
        detach(self, domid, handle, on_done=lambda _: self.store.write(node, ""))

    monkeypatch.setattr(Toolstack, "detach_vif", and_write)
    lines: list[str] = []
    assert not perform(SCENARIOS["suspend-resume"], lines.append)
    assert lines[-1] == "BAD: /libxl/1/device/vif/0 is left"


def test_two_hosts_are_told_apart() -> None:
    lines = told("migration")
    moved = lines.index("It is restored there as domain 7.")
    for line in lines[moved:]:
        if " writes " in line:
            assert re.match(r" +\d+  \[(source|destination)\] \w+ writes (front|back)end/", line)
    assert "  [source] no domain holds anything" in lines
    assert "  [destination] no domain holds anything" in lines


def test_without_a_name_all_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lifecycle"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(SCENARIOS)
    assert LONG in listed


def test_an_unknown_name_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lifecycle", "no-such-life"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "xennet: There is no scenario 'no-such-life'. 'xennet lifecycle' lists them.\n"
        "Try 'xennet lifecycle --help'.\n",
    )
