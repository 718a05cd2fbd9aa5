"""Scenarios of an end that breaks the protocol."""

from __future__ import annotations

from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.scene import TRIAL, Scene


def _hostile_packet(scene: Scene) -> None:
    scene.connect()
    queue = scene.vif.netfront.queue if scene.vif.netfront is not None else None
    if queue is not None:
        scene.tell("The guest claims 1000 requests in a ring of 256.")
        queue.tx_ring.sring.req_prod = 1000
        scene.guest.kernel.notify(queue.tx_port)
    scene.settle()
    scene.tell("The host goes on sending.")
    scene.host_sends(TRIAL)


def _hostile_response(scene: Scene) -> None:
    scene.connect()
    queue = scene.vif.netback.queue if scene.vif.netback is not None else None
    if queue is not None:
        scene.tell("The backend claims 5000 responses in a ring of 256.")
        queue.rx_ring.sring.rsp_prod = 5000
        scene.owner.kernel.notify(queue.rx_port)
    scene.settle()


HOSTILE = (
    Scenario("hostile-packet", "the guest breaks the protocol", _hostile_packet, "[F1; "),
    Scenario("hostile-response", "the backend breaks the protocol", _hostile_response, "[B1; "),
)
