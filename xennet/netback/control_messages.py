"""The messages of the control ring (xen/io/netif.h, "Control messages"): from the data of a request
to status and data of its response.

All numbers come from the frontend and may be anything. Data in a granted page is copied first and
judged in the copy (hardening rule F24, XSA-270); a message that is refused changes nothing. Where
the header leaves the choice between INVALID_PARAMETER and BUFFER_OVERFLOW, the answer is Linux's:
INVALID_PARAMETER.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from xennet.abi.grant_table import (
    GNTTAB_COPY,
    GNTTAB_COPY_BY_FLAGS,
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_okay,
)
from xennet.abi.netif import (
    GREF,
    XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER,
    XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED,
    XEN_NETIF_CTRL_STATUS_SUCCESS,
    XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING,
    XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING,
    XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE,
    XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS,
    XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE,
    XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM,
    XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS,
    XEN_NETIF_CTRL_TYPE_SET_HASH_KEY,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING,
    XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE
from xennet.flow.hash_config import MAX_MAPPING_SIZE, HashConfig
from xennet.flow.toeplitz import KEY_SIZE
from xennet.interface import Hypervisor
from xennet.netback.gref_mappings import GrefEntry, GrefMappings, pack_entries, unpack_entries

#: Status and data of a response.
Answer = tuple[int, int]

_INVALID: Answer = (XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER, 0)
_NOT_SUPPORTED: Answer = (XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED, 0)


class ControlMessages:
    """Answers the messages of a vif with ``queues`` queues.

    ``mappings`` are the static grants of each queue; if it is empty, these messages are not
    supported.
    """

    def __init__(
        self,
        config: HashConfig,
        page: ControlPage,
        queues: int,
        mappings: Sequence[GrefMappings] = (),
    ) -> None:
        self._config = config
        self._page = page
        self._queues = queues
        self._mappings = mappings
        self._handlers: dict[int, Callable[[int, int, int], Answer]] = {
            XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM: self._set_hash_algorithm,
            XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS: self._get_hash_flags,
            XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS: self._set_hash_flags,
            XEN_NETIF_CTRL_TYPE_SET_HASH_KEY: self._set_hash_key,
            XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE: self._get_hash_mapping_size,
            XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE: self._set_hash_mapping_size,
            XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING: self._set_hash_mapping,
        }
        if mappings:
            self._handlers |= {
                XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE: self._get_gref_mapping_size,
                XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING: self._add_gref_mapping,
                XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING: self._del_gref_mapping,
            }

    def answer(self, kind: int, data: tuple[int, int, int]) -> Answer:
        """The answer to a request of type ``kind``; NOT_SUPPORTED for an unknown type."""
        handler = self._handlers.get(kind)
        return _NOT_SUPPORTED if handler is None else handler(*data)

    # Hashing

    def _set_hash_algorithm(self, algorithm: int, _1: int, _2: int) -> Answer:
        return self._config.set_algorithm(algorithm), 0

    def _get_hash_flags(self, _0: int, _1: int, _2: int) -> Answer:
        return self._config.supported_types()

    def _set_hash_flags(self, types: int, _1: int, _2: int) -> Answer:
        return self._config.set_types(types), 0

    def _set_hash_key(self, gref: int, size: int, _2: int) -> Answer:
        if size > KEY_SIZE:
            return _INVALID
        key = self._page.fetch(gref, size)
        return _INVALID if key is None else (self._config.set_key(key), 0)

    def _get_hash_mapping_size(self, _0: int, _1: int, _2: int) -> Answer:
        return XEN_NETIF_CTRL_STATUS_SUCCESS, MAX_MAPPING_SIZE

    def _set_hash_mapping_size(self, size: int, _1: int, _2: int) -> Answer:
        return self._config.set_mapping_size(size), 0

    def _set_hash_mapping(self, gref: int, count: int, offset: int) -> Answer:
        if not self._config.covers(offset, count):
            return _INVALID
        raw = self._page.fetch(gref, 4 * count)
        if raw is None:
            return _INVALID
        return self._config.set_mapping(offset, array("I", raw), self._queues), 0

    # Static grants

    def _get_gref_mapping_size(self, queue: int, _1: int, _2: int) -> Answer:
        if queue >= len(self._mappings):
            return _INVALID
        return XEN_NETIF_CTRL_STATUS_SUCCESS, self._mappings[queue].limit

    def _add_gref_mapping(self, queue: int, gref: int, count: int) -> Answer:
        entries = self._gref_list(queue, gref, count)
        if entries is None or not self._mappings[queue].add(entries):
            return _INVALID
        return XEN_NETIF_CTRL_STATUS_SUCCESS, 0

    def _del_gref_mapping(self, queue: int, gref: int, count: int) -> Answer:
        entries = self._gref_list(queue, gref, count)
        if entries is None:
            return _INVALID
        mappings = self._mappings[queue]
        # Statuses first: if they cannot be written, nothing is unmapped unbeknown to the frontend.
        if not self._page.store(gref, pack_entries(entries, mappings.judge(entries))):
            return _INVALID
        return XEN_NETIF_CTRL_STATUS_SUCCESS, mappings.remove(entries)

    def _gref_list(self, queue: int, gref: int, count: int) -> list[GrefEntry] | None:
        """The mapping list in the page ``gref``; None if there is no such queue, the list is too
        long, or the copy is refused."""
        if queue >= len(self._mappings) or count * GREF.size > PAGE_SIZE:
            return None
        table = self._page.fetch(gref, count * GREF.size)
        return None if table is None else unpack_entries(table)


class ControlPage:
    """A page of the backend's own, and grant copies between it and pages of domain ``otherend_id``.

    The frontend may rewrite its page at any time, so nothing in it is judged where it lies.
    """

    def __init__(self, hv: Hypervisor, otherend_id: int) -> None:
        self._hv = hv
        self._otherend_id = otherend_id
        self._page = hv.alloc_pages(1)
        self._op = bytearray(GNTTAB_COPY.size)

    def free(self) -> None:
        """Free the page."""
        self._hv.free_pages(self._page)

    def fetch(self, gref: int, length: int) -> bytes | None:
        """The first ``length`` bytes (at most a page) behind ``gref``; None if the copy is refused.

        With a length of 0 nothing is copied.
        """
        theirs, ours = (gref, self._otherend_id, 0), (self._page.first, DOMID_SELF, 0)
        if length and not self._copy(GNTCOPY_source_gref, theirs, ours, length):
            return None
        return bytes(self._page.u8[:length])

    def store(self, gref: int, data: bytes) -> bool:
        """Write ``data`` (at most a page) to the page behind ``gref``. Returns False if that is
        refused."""
        theirs, ours = (gref, self._otherend_id, 0), (self._page.first, DOMID_SELF, 0)
        self._page.u8[: len(data)] = data
        return not data or self._copy(GNTCOPY_dest_gref, ours, theirs, len(data))

    def _copy(
        self, flags: int, source: tuple[int, int, int], dest: tuple[int, int, int], length: int
    ) -> bool:
        codec = GNTTAB_COPY_BY_FLAGS[flags]
        codec.pack_into(self._op, 0, *source, *dest, length, flags, 0)
        self._hv.grant_copy(memoryview(self._op).cast("I"), 1)
        status: int = codec.read(self._op).status
        return status == GNTST_okay
