"""What a host that stays up tells of itself, as JSON."""

from __future__ import annotations

from xennet.abi.sched import (
    SHUTDOWN_crash,
    SHUTDOWN_poweroff,
    SHUTDOWN_reboot,
    SHUTDOWN_suspend,
    SHUTDOWN_watchdog,
)
from xennet.hostd.ends import OTHER
from xennet.hostd.json_lines import Json
from xennet.hostd.live_host import AnyDomain, HostedVif, LiveHost
from xennet.lifecycle.why import why
from xennet.xenbus.state import read_state, state_name

#: Name of the layout of what ``list`` tells; it gets a new number when a key changes its meaning or
#: is removed.
FORMAT = "xennet-host/1"

_SHUTDOWNS = {
    SHUTDOWN_poweroff: "powered off",
    SHUTDOWN_reboot: "rebooting",
    SHUTDOWN_suspend: "suspended",
    SHUTDOWN_crash: "crashed",
    SHUTDOWN_watchdog: "crashed",
}


def domain_name(domain: AnyDomain) -> str:
    """The name of a domain: Domain-0, or what its creator called it."""
    return domain.domain.name


def domain_state(live: LiveHost, domain: AnyDomain) -> str:
    """The state of a domain, in a word or two."""
    info = live.host.machine.domain_info(domain.domid)
    if info is None or info.dying:
        return "dying"
    return "running" if info.shutdown is None else _SHUTDOWNS.get(info.shutdown, "shut down")


def describe_domain(live: LiveHost, domain: AnyDomain) -> Json:
    """A domain, without its vifs."""
    return {
        "domid": domain.domid,
        "name": domain_name(domain),
        "state": domain_state(live, domain),
        "drivers": OTHER if domain.drivers is None else "xennet",
    }


def describe_vif(hosted: HostedVif) -> Json:
    """A vif, its two ends, and why it does not pass traffic."""
    vif, paths = hosted.vif, hosted.vif.paths
    operation = vif.operation if hosted.removal is None else hosted.removal
    ends = {}
    for side, end, directory in (
        ("frontend", hosted.front, paths.frontend),
        ("backend", hosted.back, paths.backend),
    ):
        frames_in, frames_out = end.frames
        ends[side] = {
            "directory": directory,
            "state": state_name(read_state(vif.store, directory)),
            "end": end.spec,
            "failure": end.failure,
            "frames_in": frames_in,
            "frames_out": frames_out,
        }
    return {
        "name": vif.name,
        "handle": paths.handle,
        "mac": vif.config.mac,
        "type": paths.backend_type,
        "device_model": vif.device_model.value,
        "backend_domid": paths.backend_domid,
        "queues": hosted.queues,
        "connected": vif.connected,
        "command": "attach" if hosted.removal is None else "detach",
        "outcome": operation.outcome.value,
        "reason": operation.reason,
        **ends,
    }


def reasons(hosted: HostedVif) -> list[str]:
    """The reasons why a vif passes no traffic, or not all: those of xennet.lifecycle.why, and ports
    that have failed."""
    failed = [f"{end.spec} has failed: {end.failure}" for end in hosted.ends if end.failure]
    return [*why(hosted.vif), *failed]
