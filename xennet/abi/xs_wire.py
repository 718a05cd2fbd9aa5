"""xen/io/xs_wire.h: XenStore messages, and the page with the two rings that carry them."""

from __future__ import annotations

from construct import Bytes, Int32ul, Struct

from xennet.abi.codec import derive
from xennet.abi.xs_numbers import *  # noqa: F403
from xennet.abi.xs_numbers import XENSTORE_RING_SIZE

xsd_sockmsg = "xsd_sockmsg" / Struct(
    "type" / Int32ul,
    "req_id" / Int32ul,
    "tx_id" / Int32ul,
    "len" / Int32ul,
)

xenstore_domain_interface = "xenstore_domain_interface" / Struct(
    "req" / Bytes(XENSTORE_RING_SIZE),
    "rsp" / Bytes(XENSTORE_RING_SIZE),
    "req_cons" / Int32ul,
    "req_prod" / Int32ul,
    "rsp_cons" / Int32ul,
    "rsp_prod" / Int32ul,
    "server_features" / Int32ul,
    "connection" / Int32ul,
    "error" / Int32ul,
)

# Xen newer than 4.17: the port that XS_INTRODUCE would have named, 0 for none
xenstore_domain_interface_evtchn_port = "xenstore_domain_interface_evtchn_port" / Struct(
    *xenstore_domain_interface.subcons,
    "evtchn_port" / Int32ul,
)

XSD_SOCKMSG = derive(xsd_sockmsg)
XENSTORE_DOMAIN_INTERFACE = derive(xenstore_domain_interface)
XENSTORE_DOMAIN_INTERFACE_EVTCHN_PORT = derive(xenstore_domain_interface_evtchn_port)
