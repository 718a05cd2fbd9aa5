"""Scenarios of a backend that stops and starts again: its driver, or its whole domain."""

from __future__ import annotations

from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scene import TRIAL, Scene
from xennet.xenbus.paths import VifPaths

_UNBOUND = "The backend driver is unbound from its devices."


def restart_frontend(scene: Scene) -> None:
    """Unload the guest's driver and load it again."""
    scene.tell("The guest unloads its driver and loads it again.")
    scene.guest.unload()
    scene.settle()
    scene.guest.load()
    scene.settle()


def rebind(scene: Scene, sentence: str) -> None:
    """Unbind the backend driver and bind it again, told as ``sentence``; the script runs."""
    scene.tell(_UNBOUND)
    scene.owner.backends.unload()
    scene.settle()
    scene.tell(sentence)
    scene.owner.backends.load()
    scene.host.toolstack.replug_vif(scene.guest.domid, 0)
    scene.settle()


def _rebound(scene: Scene) -> None:
    scene.connect()
    scene.tell(_UNBOUND)
    scene.owner.backends.unload()
    scene.settle()
    scene.tell("It is bound again; nobody runs the hotplug script.")
    scene.owner.backends.load()
    scene.settle()


def _reload(scene: Scene) -> None:
    _rebound(scene)
    scene.tell("udev has the hotplug script run again.")
    scene.host.toolstack.replug_vif(scene.guest.domid, 0)
    scene.settle()
    restart_frontend(scene)


def _reload_without_udev(scene: Scene) -> None:
    _rebound(scene)
    restart_frontend(scene)


def _reload_same_rings(scene: Scene) -> None:
    scene.connect()
    scene.trial()
    front = scene.vif.netfront
    ring = front.queue.rx_ring.sring if front is not None and front.queue is not None else None
    posted = 0 if ring is None else ring.req_prod - ring.rsp_prod
    scene.expect(
        f"The guest has posted {posted} receive buffers, the first of them as request number "
        f"{0 if ring is None else ring.rsp_prod}.",
        posted > TRIAL and ring is not None and ring.rsp_prod > 0,
    )
    rebind(scene, "It is bound again, udev has the hotplug script run; the guest does nothing.")
    queue = scene.vif.netback.queue if scene.vif.netback is not None else None
    found = 0 if queue is None else queue.rx_ring.unconsumed_requests
    scene.expect(f"The backend finds {found} buffers in the rings as they are.", found == posted)


def _driver_domain_crash(scene: Scene) -> None:
    scene.owner = scene.host.add_driver_domain(name="driver")
    scene.connect()
    scene.tell("The domain that has the backend crashes; nobody cleans up.")
    scene.owner.crash()
    scene.settle()


def _driver_domain_replaced(scene: Scene) -> None:
    _driver_domain_crash(scene)
    host, old = scene.host, scene.owner
    scene.expect_reason(f"domain {old.domid}, which has the backend, does not run")
    scene.both_have_frames(TRIAL)
    scene.tell(f"The toolstack destroys domain {old.domid}.")
    old.destroy()
    scene.settle()
    new = scene.owner = host.add_driver_domain(name="new-driver")
    new.load()
    scene.tell(f"Domain {new.domid} is started in its place; the toolstack gives it the vif.")
    scene.scene_host.tell_of(VifPaths(scene.guest.domid, 0, new.domid))
    host.replace_backend(scene.vif, new)
    scene.settle()
    scene.tell("The guest still has the rings that it shared with the old one:")
    scene.expect_reason("the frontend still looks at ")
    restart_frontend(scene)
    scene.expect(
        f"The {TRIAL} frames that waited at each end have arrived.",
        (scene.in_guest.received, scene.in_host.received) == (TRIAL, TRIAL),
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
