"""The macros of xen/io/ring.h themselves, compiled into a shared library."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

SOURCE = r"""
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <stdint.h>
#include <string.h>
#include <stddef.h>
#define xen_mb()  __sync_synchronize()
#define xen_rmb() __sync_synchronize()
#define xen_wmb() __sync_synchronize()
#include <xen/xen.h>
#include <xen/io/ring.h>
#include <xen/io/netif.h>

#define OF_RING(n)                                                                              \
uint32_t n##_size(void) { return __RING_SIZE((n##_sring_t *)0, 4096); }                         \
void n##_shared_init(void *p) { n##_sring_t *s = p; SHARED_RING_INIT(s); }                      \
uint32_t n##_request_at(void *p, uint32_t i)                                                    \
{ n##_back_ring_t r; BACK_RING_INIT(&r, (n##_sring_t *)p, 4096);                                \
  return (char *)RING_GET_REQUEST(&r, i) - (char *)p; }                                         \
uint32_t n##_free_requests(void *p, uint32_t prod, uint32_t cons)                               \
{ n##_front_ring_t r; FRONT_RING_INIT(&r, (n##_sring_t *)p, 4096);                              \
  r.req_prod_pvt = prod; r.rsp_cons = cons; return RING_FREE_REQUESTS(&r); }                    \
uint32_t n##_full(void *p, uint32_t prod, uint32_t cons)                                        \
{ n##_front_ring_t r; FRONT_RING_INIT(&r, (n##_sring_t *)p, 4096);                              \
  r.req_prod_pvt = prod; r.rsp_cons = cons; return RING_FULL(&r); }                             \
uint32_t n##_unconsumed_responses(void *p, uint32_t prod, uint32_t cons)                        \
{ n##_front_ring_t r; FRONT_RING_INIT(&r, (n##_sring_t *)p, 4096);                              \
  r.req_prod_pvt = prod; r.rsp_cons = cons; return RING_HAS_UNCONSUMED_RESPONSES(&r); }         \
uint32_t n##_response_prod_overflow(void *p, uint32_t cons, uint32_t prod)                      \
{ n##_front_ring_t r; FRONT_RING_INIT(&r, (n##_sring_t *)p, 4096);                              \
  r.rsp_cons = cons; return RING_RESPONSE_PROD_OVERFLOW(&r, prod); }                            \
uint32_t n##_push_requests(void *p, uint32_t prod, uint32_t cons)                               \
{ n##_front_ring_t r; int notify; FRONT_RING_INIT(&r, (n##_sring_t *)p, 4096);                  \
  r.req_prod_pvt = prod; r.rsp_cons = cons;                                                     \
  RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&r, notify); return notify; }                             \
uint32_t n##_final_check_responses(void *p, uint32_t prod, uint32_t cons)                       \
{ n##_front_ring_t r; int work; FRONT_RING_INIT(&r, (n##_sring_t *)p, 4096);                    \
  r.req_prod_pvt = prod; r.rsp_cons = cons;                                                     \
  RING_FINAL_CHECK_FOR_RESPONSES(&r, work); return !!work; }                                    \
uint32_t n##_unconsumed_requests(void *p, uint32_t prod, uint32_t cons)                         \
{ n##_back_ring_t r; BACK_RING_INIT(&r, (n##_sring_t *)p, 4096);                                \
  r.rsp_prod_pvt = prod; r.req_cons = cons; return RING_HAS_UNCONSUMED_REQUESTS(&r); }          \
uint32_t n##_request_cons_overflow(void *p, uint32_t prod, uint32_t cons)                       \
{ n##_back_ring_t r; BACK_RING_INIT(&r, (n##_sring_t *)p, 4096);                                \
  r.rsp_prod_pvt = prod; return RING_REQUEST_CONS_OVERFLOW(&r, cons); }                         \
uint32_t n##_request_prod_overflow(void *p, uint32_t pvt, uint32_t prod)                        \
{ n##_back_ring_t r; BACK_RING_INIT(&r, (n##_sring_t *)p, 4096);                                \
  r.rsp_prod_pvt = pvt; return RING_REQUEST_PROD_OVERFLOW(&r, prod); }                          \
uint32_t n##_push_responses(void *p, uint32_t prod, uint32_t cons)                              \
{ n##_back_ring_t r; int notify; BACK_RING_INIT(&r, (n##_sring_t *)p, 4096);                    \
  r.rsp_prod_pvt = prod; r.req_cons = cons;                                                     \
  RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&r, notify); return notify; }                            \
uint32_t n##_final_check_requests(void *p, uint32_t prod, uint32_t cons)                        \
{ n##_back_ring_t r; int work; BACK_RING_INIT(&r, (n##_sring_t *)p, 4096);                      \
  r.rsp_prod_pvt = prod; r.req_cons = cons;                                                     \
  RING_FINAL_CHECK_FOR_REQUESTS(&r, work); return !!work; }

OF_RING(netif_tx)
OF_RING(netif_rx)
"""


def build(folder: Path) -> ctypes.CDLL:
    """Compile SOURCE in ``folder`` and load it; every function returns an unsigned 32-bit word."""
    source, library = folder / "macros.c", folder / "macros.so"
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return ctypes.CDLL(str(library))
