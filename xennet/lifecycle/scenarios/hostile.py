"""Scenarios of an end that breaks the protocol."""

from __future__ import annotations

from xennet.lifecycle.scenario import Scenario
from xennet.lifecycle.stage import TRIAL, Stage


def _hostile_packet(stage: Stage) -> None:
    stage.connect()
    queue = stage.vif.netfront.queue if stage.vif.netfront is not None else None
    if queue is not None:
        stage.tell("The guest claims 1000 requests in a ring of 256.")
        queue.tx_ring.sring.req_prod = 1000
        stage.guest.kernel.notify(queue.tx_port)
    stage.settle()
    stage.tell("The host goes on sending.")
    stage.host_sends(TRIAL)


def _hostile_response(stage: Stage) -> None:
    stage.connect()
    queue = stage.vif.netback.queue if stage.vif.netback is not None else None
    if queue is not None:
        stage.tell("The backend claims 5000 responses in a ring of 256.")
        queue.rx_ring.sring.rsp_prod = 5000
        stage.owner.kernel.notify(queue.rx_port)
    stage.settle()


HOSTILE = (
    Scenario("hostile-packet", "the guest breaks the protocol", _hostile_packet, "[F1; "),
    Scenario("hostile-response", "the backend breaks the protocol", _hostile_response, "[B1; "),
)
