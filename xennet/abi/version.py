"""xen/version.h: what a domain can ask about the hypervisor."""

from __future__ import annotations

from construct import Int32ul, Struct

from xennet.abi.codec import derive

XENVER_version = 0
XENVER_extraversion = 1
XENVER_capabilities = 3
XENVER_changeset = 4
XENVER_get_features = 6
XENVER_pagesize = 7
XENVER_guest_handle = 8

# Lengths of the character arrays, in bytes
XEN_EXTRAVERSION_LEN = 16
XEN_CAPABILITIES_INFO_LEN = 1024
XEN_CHANGESET_INFO_LEN = 64

# xen/features.h
XENFEAT_NR_SUBMAPS = 1

xen_feature_info = "xen_feature_info" / Struct(
    "submap_idx" / Int32ul,
    "submap" / Int32ul,
)

XEN_FEATURE_INFO = derive(xen_feature_info)
