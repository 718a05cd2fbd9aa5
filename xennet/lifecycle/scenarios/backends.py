"""Scenarios of a backend that goes and comes again: its driver, or its whole domain."""

from __future__ import annotations

from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.stage import TRIAL, Stage
from xennet.xenbus.paths import VifPaths

_UNBOUND = "The backend driver is unbound from its devices."


def restart_frontend(stage: Stage) -> None:
    """The guest's driver goes and comes."""
    stage.tell("The guest unloads its driver and loads it again.")
    stage.guest.unload()
    stage.settle()
    stage.guest.load()
    stage.settle()


def rebind(stage: Stage, sentence: str) -> None:
    """The backend driver is unbound and bound again, as ``sentence`` tells; the script runs."""
    stage.tell(_UNBOUND)
    stage.owner.backends.unload()
    stage.settle()
    stage.tell(sentence)
    stage.owner.backends.load()
    stage.house.toolstack.replug_vif(stage.guest.domid, 0)
    stage.settle()


def _rebound(stage: Stage) -> None:
    stage.connect()
    stage.tell(_UNBOUND)
    stage.owner.backends.unload()
    stage.settle()
    stage.tell("It is bound again; nobody runs the hotplug script.")
    stage.owner.backends.load()
    stage.settle()


def _reload(stage: Stage) -> None:
    _rebound(stage)
    stage.tell("udev has the hotplug script run again.")
    stage.house.toolstack.replug_vif(stage.guest.domid, 0)
    stage.settle()
    restart_frontend(stage)


def _reload_without_udev(stage: Stage) -> None:
    _rebound(stage)
    restart_frontend(stage)


def _reload_same_rings(stage: Stage) -> None:
    stage.connect()
    stage.trial()
    front = stage.vif.netfront
    ring = front.queue.rx_ring.sring if front is not None and front.queue is not None else None
    posted = 0 if ring is None else ring.req_prod - ring.rsp_prod
    stage.expect(
        f"The guest has posted {posted} receive buffers, the first of them as request number "
        f"{0 if ring is None else ring.rsp_prod}.",
        posted > TRIAL and ring is not None and ring.rsp_prod > 0,
    )
    rebind(stage, "It is bound again, udev has the hotplug script run; the guest does nothing.")
    queue = stage.vif.netback.queue if stage.vif.netback is not None else None
    found = 0 if queue is None else queue.rx_ring.unconsumed_requests
    stage.expect(f"The backend finds {found} buffers in the rings as they are.", found == posted)


def _driver_domain_crash(stage: Stage) -> None:
    stage.owner = stage.house.add_driver_domain(name="driver")
    stage.connect()
    stage.tell("The domain that has the backend crashes; nobody cleans up.")
    stage.owner.crash()
    stage.settle()


def _driver_domain_replaced(stage: Stage) -> None:
    _driver_domain_crash(stage)
    house, old = stage.house, stage.owner
    stage.expect_reason(f"domain {old.domid}, which has the backend, does not run")
    stage.both_have_frames(TRIAL)
    stage.tell(f"The toolstack destroys domain {old.domid}.")
    old.destroy()
    stage.settle()
    new = stage.owner = house.add_driver_domain(name="new-driver")
    new.load()
    stage.tell(f"Domain {new.domid} is started in its place; the toolstack gives it the vif.")
    stage.host.tell_of(VifPaths(stage.guest.domid, 0, new.domid))
    house.replace_backend(stage.vif, new)
    stage.settle()
    stage.tell("The guest still has the rings that it shared with the old one:")
    stage.expect_reason("the frontend still looks at ")
    restart_frontend(stage)
    stage.expect(
        f"The {TRIAL} frames that waited at each end have arrived.",
        (stage.in_guest.received, stage.in_host.received) == (TRIAL, TRIAL),
    )


BACKENDS = (
    Scenario("backend-reload", "the backend driver is unbound and bound again", _reload),
    Scenario(
        "backend-reload-without-udev",
        "the same, but nobody runs the hotplug script again",
        _reload_without_udev,
        "{backend}/hotplug-status",
    ),
    Scenario(
        "backend-reload-same-rings",
        "a new backend goes on in rings that are full of receive buffers",
        _reload_same_rings,
    ),
    Scenario(
        "driver-domain-crash",
        "the backend's domain stops with all in place",
        _driver_domain_crash,
        "domain 2, which has the backend, does not run",
    ),
    Scenario(
        "driver-domain-replaced",
        "the backend's domain crashes, another one takes the vif",
        _driver_domain_replaced,
    ),
)
