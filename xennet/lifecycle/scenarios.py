"""The scenarios: a name, what it shows, what happens, and how it should end."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from xennet.abi.sched import SHUTDOWN_suspend
from xennet.lifecycle.stage import TRIAL, Stage
from xennet.lifecycle.why import why
from xennet.netback.policy import LINUX as LINUX_BACKEND
from xennet.netback.policy import BackendPolicy
from xennet.netback.xnb.policy import XNB
from xennet.netfront.kinds import FREEBSD, LINUX, WINDOWS, FrontendKind
from xennet.xenbus.paths import VifPaths

#: How often reconnect-1000 closes and connects.
RECONNECTS = 1000


@frozen
class Scenario:
    """``play`` leaves the vif as it ends; ``shows`` is one line about it.

    ``blocked`` is what a reason of the why report must name, with ``{frontend}`` and ``{backend}``
    for the vif's directories; "" when traffic must pass and there must be no reason.
    """

    name: str
    shows: str
    play: Callable[[Stage], None]
    blocked: str = ""
    kind: FrontendKind = LINUX
    policy: BackendPolicy = LINUX_BACKEND


def _start_backend_first(stage: Stage) -> None:
    stage.load_backend()
    stage.plug()
    stage.load_frontend()


def _start_frontend_first(stage: Stage) -> None:
    stage.load_frontend()
    stage.plug()
    stage.load_backend()


def _slow_script(stage: Stage) -> None:
    _no_script_answer(stage)
    stage.tell("Until then:")
    _tell_why(stage)
    stage.tell("Now the hotplug script runs.")
    stage.house.script.release()
    stage.house.settle()


def _no_script_answer(stage: Stage) -> None:
    stage.tell("The hotplug script does not run yet.")
    stage.house.script.held = True
    _start_backend_first(stage)


def _script_fails(stage: Stage) -> None:
    stage.house.script.failure = "bridge xbr0 does not exist"
    _start_backend_first(stage)


def _by_hand(stage: Stage, keys: dict[str, str]) -> None:
    """A guest without a driver writes ``keys``, then Connected."""
    stage.load_backend()
    stage.plug()
    stage.tell("The guest has no driver: somebody in it writes keys by hand, then Connected.")
    for name, value in (*keys.items(), ("state", "4")):
        stage.guest.kernel.store.write(f"device/vif/0/{name}", value)
    stage.house.settle()


def _garbage_ring_ref(stage: Stage) -> None:
    _by_hand(stage, {"tx-ring-ref": "junk", "rx-ring-ref": "9", "event-channel": "1"})


def _missing_event_channel(stage: Stage) -> None:
    _by_hand(stage, {"tx-ring-ref": "8", "rx-ring-ref": "9"})


def _guest_closes(stage: Stage) -> None:
    stage.connect()
    stage.tell("The guest unloads its driver.")
    stage.guest.unload()
    stage.house.settle()


def _toolstack_detaches(stage: Stage) -> None:
    stage.connect()
    stage.tell("The toolstack detaches the vif.")
    stage.house.unplug(stage.vif)
    stage.house.settle()


def _backend_closes(stage: Stage) -> None:
    stage.connect()
    stage.tell("The backend wishes to close.")
    if stage.vif.backend is not None:
        stage.vif.backend.close()
    stage.house.settle()


def _straight_to_closed(stage: Stage) -> None:
    stage.connect()
    stage.tell("The guest writes Closed without Closing before it.")
    stage.guest.kernel.store.write("device/vif/0/state", "6")
    stage.house.settle()


def _directory_removed(stage: Stage) -> None:
    stage.connect()
    stage.tell("Somebody removes the backend's directory.")
    stage.house.store.rm(stage.vif.paths.backend)
    stage.house.settle()


def _guest_crash(stage: Stage) -> None:
    stage.connect()
    stage.tell("The guest crashes; nobody cleans up.")
    stage.guest.crash()
    stage.house.settle()


def _backend_rebound(stage: Stage) -> None:
    stage.connect()
    backends = stage.house.dom0.backends
    stage.tell("The backend driver is unbound from its devices.")
    backends.unload()
    stage.house.settle()
    stage.tell("It is bound again; nobody runs the hotplug script.")
    backends.load()
    stage.house.settle()


def _restart_frontend(stage: Stage) -> None:
    stage.tell("The guest unloads its driver and loads it again.")
    stage.guest.unload()
    stage.house.settle()
    stage.guest.load()
    stage.house.settle()


def _backend_reload(stage: Stage) -> None:
    _backend_rebound(stage)
    stage.tell("udev has the hotplug script run again.")
    stage.house.toolstack.replug_vif(stage.guest.domid, 0)
    stage.house.settle()
    _restart_frontend(stage)


def _backend_reload_without_udev(stage: Stage) -> None:
    _backend_rebound(stage)
    _restart_frontend(stage)


def _suspend_resume(stage: Stage) -> None:
    stage.connect()
    stage.tell("The guest was suspended and wakes up in the same domain.")
    stage.guest.frontends.resume()
    stage.house.settle()


def _save_restore(stage: Stage) -> None:
    stage.connect()
    house, guest = stage.house, stage.guest
    saved, old = house.toolstack.vifs(guest.domid), guest.domid
    stage.tell("The guest is suspended and saved; its domain is destroyed.")
    guest.shut_down(SHUTDOWN_suspend)
    house.toolstack.destroy_domain(old)
    house.settle()
    stage.tell("It is restored as another domain.")
    stage.narrator.paths = VifPaths(old + 1, 0)
    house.restore(guest, saved, domid=old + 1)
    house.settle()


def _reconnect(stage: Stage) -> None:
    stage.connect()
    before = _held(stage)
    stage.tell(f"The guest's driver is unloaded and loaded {RECONNECTS} times.")
    stage.narrator.muted = True
    for _ in range(RECONNECTS):
        stage.guest.unload()
        stage.house.settle()
        stage.guest.load()
        stage.house.settle()
    stage.narrator.muted = False
    for domain, (old, new) in enumerate(zip(before, _held(stage), strict=True)):
        stage.tell(f"Domain {domain} held {old} and holds {new}.")
        if old != new:
            stage.grown.append(f"domain {domain} held {old}, now {new}")


def _held(stage: Stage) -> list[str]:
    """What each domain holds, in words that can be compared."""
    return [
        f"{len(held.granted)} grants, {len(held.mappings)} mappings, {len(held.ports)} ports, "
        f"{held.pages} pages"
        for held in stage.house.leaks().domains
    ]


def _hostile_packet(stage: Stage) -> None:
    stage.connect()
    queue = stage.vif.netfront.queue if stage.vif.netfront is not None else None
    if queue is not None:
        stage.tell("The guest claims 1000 requests in a ring of 256.")
        queue.tx_ring.sring.req_prod = 1000
        stage.guest.kernel.notify(queue.tx_port)
    stage.house.settle()
    stage.tell("The host goes on sending.")
    stage.host_sends(TRIAL)


def _guest_stops_receiving(stage: Stage) -> None:
    stage.connect()
    stage.tell("The guest's network stack takes nothing any more; the host sends 1000 frames.")
    stage.in_guest.room = 0
    stage.host_sends(1000)


def _hostile_response(stage: Stage) -> None:
    stage.connect()
    queue = stage.vif.netback.queue if stage.vif.netback is not None else None
    if queue is not None:
        stage.tell("The backend claims 5000 responses in a ring of 256.")
        queue.rx_ring.sring.rsp_prod = 5000
        stage.house.dom0.kernel.notify(queue.rx_port)
    stage.house.settle()


def _rate_limited(stage: Stage) -> None:
    stage.load_backend()
    stage.plug({"rate": "100,1000000"})
    stage.load_frontend()
    stage.tell("The guest sends more than the limit of 100 bytes per second lets through.")
    stage.in_guest.to_send += 5
    stage.vif.kick()
    stage.house.settle()


def _tell_why(stage: Stage) -> list[str]:
    """The why report, told."""
    reasons = why(stage.vif)
    stage.tell(f"Why {stage.vif.name} passes no traffic:" if reasons else "Traffic can pass.")
    for reason in reasons:
        stage.tell(f"  because {reason}")
    return reasons


def perform(scenario: Scenario, say: Callable[[str], None]) -> bool:
    """Play ``scenario``, tell it to ``say`` line by line; whether it ended as it should."""
    stage = Stage(say, scenario.kind, scenario.policy)
    try:
        say(f"{scenario.name}: {scenario.shows}")
        scenario.play(stage)
        paths = stage.vif.paths
        say(f"States: {stage.house.states(stage.vif)}")
        reasons = _tell_why(stage)
        wrong = list(stage.grown)
        if not scenario.blocked:
            wrong += ["the vif is blocked"] if reasons else []
            wrong += [] if stage.trial() else ["frames were lost"]
        else:
            expected = scenario.blocked.format(frontend=paths.frontend, backend=paths.backend)
            if not any(expected in reason for reason in reasons):
                wrong.append(f"no reason names {expected}")
        stage.tear_down()
        leaks = stage.house.leaks()
        say("Then the toolstack takes everything away.")
        for line in str(leaks).splitlines():
            say(f"  {line}")
        if leaks:
            wrong.append("teardown left something behind")
        say(f"BAD: {'; '.join(wrong)}" if wrong else "GOOD: it ended as it should")
        return not wrong
    finally:
        stage.house.destroy()


_ALL = (
    Scenario("start-backend-first", "the usual start, the backend waits", _start_backend_first),
    Scenario("start-frontend-first", "the frontend waits", _start_frontend_first),
    Scenario("slow-script", "Connected is shown when the hotplug script is done", _slow_script),
    Scenario(
        "no-script-answer",
        "the hotplug script never answers (stops half way)",
        _no_script_answer,
        "{backend}/hotplug-status",
    ),
    Scenario("script-fails", "the hotplug script fails", _script_fails, "{backend}/hotplug-error"),
    Scenario(
        "garbage-ring-ref",
        "a ring reference that is no number",
        _garbage_ring_ref,
        "{frontend}/tx-ring-ref",
    ),
    Scenario(
        "missing-event-channel",
        "Connected, but no event channel",
        _missing_event_channel,
        "{frontend}/event-channel",
    ),
    Scenario("guest-closes", "the guest's driver is unloaded", _guest_closes, "{frontend}/state"),
    Scenario("toolstack-detaches", "a hot-unplug", _toolstack_detaches, "{backend} does not exist"),
    Scenario("backend-closes", "the backend closes", _backend_closes, "{backend}/state"),
    Scenario(
        "straight-to-closed",
        "the guest skips Closing",
        _straight_to_closed,
        "{frontend}/state",
    ),
    Scenario(
        "directory-removed",
        "the backend's directory goes",
        _directory_removed,
        "{backend} does not exist",
    ),
    Scenario("guest-crash", "the guest stops with all in place", _guest_crash, "domain 1, "),
    Scenario("backend-reload", "the backend driver is unbound and bound again", _backend_reload),
    Scenario(
        "backend-reload-without-udev",
        "the same, but nobody runs the hotplug script again",
        _backend_reload_without_udev,
        "{backend}/hotplug-status",
    ),
    Scenario("suspend-resume", "the guest resumes and connects again", _suspend_resume),
    Scenario("save-restore", "the guest goes on as another domain", _save_restore),
    Scenario("reconnect-1000", "a thousand connections, and nothing grows", _reconnect),
    Scenario("hostile-packet", "the guest breaks the protocol", _hostile_packet, "[F1; "),
    Scenario("hostile-response", "the backend breaks the protocol", _hostile_response, "[B1; "),
    Scenario(
        "guest-stops-receiving",
        "no buffers for what the host sends",
        _guest_stops_receiving,
        "no receive buffers",
    ),
    Scenario("rate-limited", "more than the rate limit", _rate_limited, "{backend}/rate"),
    Scenario(
        "windows-first-cycle",
        "xenvif closes once before it starts",
        _start_backend_first,
        kind=WINDOWS,
    ),
    Scenario(
        "freebsd",
        "FreeBSD's netfront and xnb",
        _start_backend_first,
        kind=FREEBSD,
        policy=XNB,
    ),
)

#: By name, in the order of a vif's life.
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
