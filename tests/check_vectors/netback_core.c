/* SPDX-License-Identifier: BSD-2-Clause
 *
 * From the public headers alone. With -DBUG_14 fields of a request are taken in another byte order,
 * with -DBUG_17 a packet ends at its third data slot: two faults that were shipped. */
#define __XEN_INTERFACE_VERSION__ 0x00040d00

#include <stddef.h>
#include <string.h>
#include "netback_core.h"
#define xen_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define xen_rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define xen_wmb() __atomic_thread_fence(__ATOMIC_RELEASE)
#include <xen/io/ring.h>
#include <xen/io/netif.h>

#define PAGE 4096U
#define SMALLEST_FRAME 14U
#define MOST_SLOTS 64U

enum fate { TAKEN, REFUSED, GIVEN_UP };

static void copy_request(netif_tx_back_ring_t *ring, RING_IDX index, netif_tx_request_t *request)
{
    memcpy(request, RING_GET_REQUEST(ring, index), sizeof *request);
#ifdef BUG_14
    request->id = __builtin_bswap16(request->id);
    request->size = __builtin_bswap16(request->size);
#endif
}

static void respond(netif_tx_back_ring_t *ring, RING_IDX index, uint16_t id, int16_t status)
{
    netif_tx_response_t *response = RING_GET_RESPONSE(ring, index);
    if (status != NETIF_RSP_NULL) response->id = id;
    response->status = status;
}

/* The extra infos behind the first slot. Returns how many, or -1. */
static int read_extras(netif_tx_back_ring_t *ring, RING_IDX index, RING_IDX end, struct packet *packet,
                       int *multicast)
{
    netif_extra_info_t extra;
    int count = 0;
    do {
        if (index + count == end) return -1;
        memcpy(&extra, RING_GET_REQUEST(ring, index + count), sizeof extra);
        if (extra.type == 0 || extra.type > XEN_NETIF_EXTRA_TYPE_HASH) return -1;
        if (extra.type == XEN_NETIF_EXTRA_TYPE_MCAST_ADD || extra.type == XEN_NETIF_EXTRA_TYPE_MCAST_DEL)
            *multicast = 1;
        if (extra.type == XEN_NETIF_EXTRA_TYPE_GSO) {
            if (extra.u.gso.size == 0 || extra.u.gso.type == 0 ||
                extra.u.gso.type > XEN_NETIF_GSO_TYPE_TCPV6) return -1;
            packet->gso_size = extra.u.gso.size;
            packet->gso_type = extra.u.gso.type;
        }
        count++;
    } while (extra.flags & XEN_NETIF_EXTRA_FLAG_MORE);
    return count;
}

/* Appends the bytes of a slot. Returns whether they could be had. */
static int append(struct packet *packet, const netif_tx_request_t *slot, unsigned int size, grant_lookup *lookup)
{
    const uint8_t *page = size ? lookup(slot->gref) : packet->data;
    if (page == NULL) return 0;
    memcpy(packet->data + packet->length, page + slot->offset, size);
    packet->length += size;
    return 1;
}

/* One packet from index on. Returns its fate; *slots and *nulls: its slots, and which are extras. */
static enum fate read_packet(netif_tx_back_ring_t *ring, RING_IDX index, RING_IDX end, grant_lookup *lookup,
                             struct packet *packet, netif_tx_request_t *slot, unsigned int *slots,
                             unsigned int *nulls, int *multicast)
{
    unsigned int left, at;
    int good = 1;
    memset(packet, 0, offsetof(struct packet, data));
    copy_request(ring, index, &slot[0]);
    *slots = 1;
    *nulls = 0;
    *multicast = 0;
    if (slot[0].flags & NETTXF_extra_info) {
        int extras = read_extras(ring, index + 1, end, packet, multicast);
        if (extras < 0) return GIVEN_UP;
        *nulls = extras;
        if (*multicast) return TAKEN;
    }
    left = slot[0].size;
    while (slot[*slots - 1].flags & NETTXF_more_data) {
#ifdef BUG_17
        if (*slots == 2) break;
#endif
        if (index + *nulls + *slots == end || *slots == MOST_SLOTS) return GIVEN_UP;
        copy_request(ring, index + *nulls + *slots, &slot[*slots]);
        if (slot[*slots].offset + slot[*slots].size > PAGE) return GIVEN_UP;
        if (slot[*slots].size > left) good = 0;
        left = (left - slot[*slots].size) & 0xffff;
        ++*slots;
    }
    if (!good || left < SMALLEST_FRAME) return REFUSED;
    if (slot[0].offset + left > PAGE) return GIVEN_UP;
    if (packet->gso_size && !(slot[0].flags & NETTXF_csum_blank)) return REFUSED;
    good = append(packet, &slot[0], left, lookup);
    for (at = 1; at < *slots; at++) good = good && append(packet, &slot[at], slot[at].size, lookup);
    packet->csum_blank = !!(slot[0].flags & NETTXF_csum_blank);
    packet->data_validated = !!(slot[0].flags & NETTXF_data_validated);
    return good ? TAKEN : REFUSED;
}

void netback_pass(void *ring_page, grant_lookup *lookup, struct pass *pass)
{
    static netif_tx_request_t slot[MOST_SLOTS];
    netif_tx_back_ring_t ring = { .sring = ring_page, .nr_ents = 256, .rsp_prod_pvt = pass->req_cons };
    RING_IDX end = ring.sring->req_prod;
    unsigned int slots, nulls, at;
    int multicast, more;

    ring.req_cons = pass->req_cons;
    if (end - ring.req_cons > ring.nr_ents) pass->given_up = 1;
    while (!pass->given_up && ring.req_cons != end) {
        struct packet *packet = &pass->packet[pass->packets];
        enum fate fate = read_packet(&ring, ring.req_cons, end, lookup, packet, slot, &slots, &nulls, &multicast);
        if (fate == GIVEN_UP) {
            pass->given_up = 1;
            break;
        }
        for (at = 0; at < slots + nulls; at++) {
            int extra = at >= 1 && at <= nulls;
            respond(&ring, ring.rsp_prod_pvt++, slot[at > nulls ? at - nulls : 0].id,
                    extra ? NETIF_RSP_NULL : fate == TAKEN ? NETIF_RSP_OKAY : NETIF_RSP_ERROR);
        }
        ring.req_cons += slots + nulls;
        if (fate == TAKEN && !multicast) pass->packets++;
    }
    if (ring.req_cons != pass->req_cons) RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&ring, pass->notify);
    if (!pass->given_up) RING_FINAL_CHECK_FOR_REQUESTS(&ring, more);
    (void)more;
    pass->req_cons = ring.req_cons;
}
