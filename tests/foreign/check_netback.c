/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A network backend for the conformance suite, as a program of domain 0: it gives every frame that
 * it takes back to the guest. On libxengnttab, libxenevtchn and libxenstore, from the public headers
 * (xen/io/netif.h, ring.h, xenbus.h): several queues, split event channels, chains, GSO, checksums,
 * a multicast filter, closing and connecting again at any time. What breaks the protocol beyond
 * repair closes the vif, with a word in the error node; what is wrong in one packet is answered.
 *
 *   check_netback [-d DOMID] [-v HANDLE] [-p]
 *
 * With -p it looks every two milliseconds, and waits for nothing.
 * Compiled with -DBUG_n it has bug n of bugs.toml. */
#define __XEN_INTERFACE_VERSION__ 0x00040d00

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/mman.h>
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>
#include <xen/grant_table.h>
#define xen_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define xen_rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define xen_wmb() __atomic_thread_fence(__ATOMIC_RELEASE)
#include <xen/io/ring.h>
#include <xen/io/netif.h>
#include <xen/io/xenbus.h>

#include "bugs.h"
#include "echo_packets.h"

#define PAGE 4096U
#define MOST_QUEUES 2U
#define SMALLEST_FRAME 14U
/* Slots of a packet: all backends take the first number; from the last one on there is no packet. */
#define MOST_SLOTS (XEN_NETIF_NR_SLOTS_MIN + 1)
#define FATAL_SLOTS (XEN_NETIF_NR_SLOTS_MIN + 4)
#define MOST_GROUPS 64U /* of the multicast filter */

struct queue {
    netif_tx_back_ring_t tx;
    netif_rx_back_ring_t rx;
    xenevtchn_port_or_error_t tx_port, rx_port;
    struct packets echo;
};

static struct queue queue[MOST_QUEUES];
static unsigned int queues;
static unsigned int frontend_domid = 1;
static char own_path[128], frontend_path[128], error_path[192];
static struct { int sg, gso[XEN_NETIF_GSO_TYPE_TCPV6 + 1], csum_v4, csum_v6, filter; } takes;
static unsigned char group[MOST_GROUPS][6];
static unsigned int groups;
static int polls;

static struct xs_handle *store;
static xengnttab_handle *gnttab;
static xenevtchn_handle *evtchn;

/* -- the store ---------------------------------------------------------------------------------- */

static char *read_node(const char *directory, const char *name)
{
    char path[256];
    unsigned int length;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return xs_read(store, XBT_NULL, path, &length);
}

/* A decimal number and nothing else, or otherwise. */
static long read_number(const char *directory, const char *name, long otherwise)
{
    char *value = read_node(directory, name), *end;
    long number = otherwise;
    if (value && *value >= '0' && *value <= '9') {
        errno = 0;
        number = strtol(value, &end, 10);
        if (*end || errno) number = otherwise;
    }
    free(value);
    return number;
}

static void write_text(const char *directory, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    xs_write(store, XBT_NULL, path, text, strlen(text));
}

static void write_number(const char *name, unsigned int number)
{
    char value[16];
    snprintf(value, sizeof value, "%u", number);
    write_text(own_path, name, value);
}

static enum xenbus_state shown = XenbusStateUnknown;

static int there(void) { return read_number(own_path, "state", -1) >= 0; }

/* Only while the directory is there: a backend must not make it again. */
static void show_state(enum xenbus_state state)
{
    if (state == shown || !there()) return;
    write_number("state", state);
    shown = state;
}

/* -- closing ------------------------------------------------------------------------------------ */

static void disconnect(void)
{
    for (struct queue *q = queue; q < queue + MOST_QUEUES; q++) {
        if (q->tx.sring) xengnttab_unmap(gnttab, q->tx.sring, 1);
        if (q->rx.sring) xengnttab_unmap(gnttab, q->rx.sring, 1);
        if (q->tx_port >= 0) xenevtchn_unbind(evtchn, q->tx_port);
        if (q->rx_port >= 0 && q->rx_port != q->tx_port) xenevtchn_unbind(evtchn, q->rx_port);
        q->tx.sring = NULL;
        q->rx.sring = NULL;
        q->tx_port = q->rx_port = -1;
        packets_drop_all(&q->echo);
    }
    queues = groups = 0;
}

/* The end of this connection; a frontend may begin another one. */
static void fatal(const char *why)
{
    fprintf(stderr, "check_netback: %s\n", why);
    write_text(error_path, "error", why);
    disconnect();
    show_state(XenbusStateClosing);
}

/* -- requests of the tx ring -------------------------------------------------------------------- */

enum verdict { NOTHING, GOOD, WRONG, FATAL };
struct request {
    unsigned int slots, extras;
    int has[XEN_NETIF_EXTRA_TYPE_MAX];
    netif_extra_info_t extra[XEN_NETIF_EXTRA_TYPE_MAX]; /* the last one of each type */
    netif_tx_request_t slot[FATAL_SLOTS];
    const char *why;
};

static enum verdict bad(struct request *r, enum verdict verdict, const char *why)
{
    r->why = why;
    return verdict;
}

static unsigned int size_of(const struct request *r, unsigned int slot)
{
    unsigned int size = r->slot[slot].size;
    for (unsigned int i = 1; !slot && i < r->slots; i++) size -= r->slot[i].size;
    return size;
}

/* The slots of one packet, each loaded once. The first one has the size of the whole packet, the
 * others their own; extra infos follow the first one. A frontend publishes whole packets. */
static enum verdict take_slots(struct queue *q, RING_IDX prod, struct request *r)
{
    RING_IDX at = q->tx.req_cons;
    unsigned int others = 0;
    int more;
    r->slots = r->extras = 0;
    memset(r->has, 0, sizeof r->has);
    if (at == prod) return NOTHING;
    RING_COPY_REQUEST(&q->tx, at++, &r->slot[r->slots++]);
    for (more = r->slot[0].flags & NETTXF_extra_info; more; r->extras++) {
        netif_tx_request_t raw;
        netif_extra_info_t info;
        if (at == prod) return bad(r, FATAL, "extra infos that are not all there");
        RING_COPY_REQUEST(&q->tx, at++, &raw);
        memcpy(&info, &raw, sizeof info);
        if (!info.type || info.type >= XEN_NETIF_EXTRA_TYPE_MAX) return bad(r, FATAL, "an extra info of no type");
        r->has[info.type] = 1;
        r->extra[info.type] = info;
        more = info.flags & XEN_NETIF_EXTRA_FLAG_MORE;
    }
    if (r->has[XEN_NETIF_EXTRA_TYPE_MCAST_ADD] || r->has[XEN_NETIF_EXTRA_TYPE_MCAST_DEL]) return GOOD;
    while (r->slot[r->slots - 1].flags & NETTXF_more_data) {
        if (at == prod) return bad(r, FATAL, "a packet that is not all there");
        if (r->slots == FATAL_SLOTS - 1) return bad(r, FATAL, "a packet of far too many slots");
        RING_COPY_REQUEST(&q->tx, at++, &r->slot[r->slots++]);
    }
    for (unsigned int i = 1; i < r->slots; i++) {
        if (r->slot[i].offset + r->slot[i].size > PAGE) return bad(r, FATAL, "a slot that leaves its page");
        others += r->slot[i].size;
    }
    if (r->slots > MOST_SLOTS) return bad(r, WRONG, "a packet of too many slots");
    if (others > r->slot[0].size) {
        if (BUG(16)) abort();
        return bad(r, WRONG, "slots larger than their packet");
    }
    if (r->slot[0].offset + size_of(r, 0) > PAGE) return bad(r, FATAL, "a first slot that leaves its page");
    if (size_of(r, 0) < SMALLEST_FRAME) return bad(r, WRONG, "no whole Ethernet header in the first slot");
    if (r->has[XEN_NETIF_EXTRA_TYPE_GSO]) {
        netif_extra_info_t *gso = &r->extra[XEN_NETIF_EXTRA_TYPE_GSO];
        if (!gso->u.gso.size) return bad(r, FATAL, "GSO with segments of no bytes");
        if (gso->u.gso.type != XEN_NETIF_GSO_TYPE_TCPV4 && gso->u.gso.type != XEN_NETIF_GSO_TYPE_TCPV6)
            return bad(r, FATAL, "GSO of no type");
    }
    return GOOD;
}

/* Copy a packet out of the guest's pages, in one hypercall. good[i] is whether slot i was copied. */
static int copy_in(const struct request *r, unsigned char *to, int *good)
{
    xengnttab_grant_copy_segment_t segment[MOST_SLOTS];
    int all = 1;
    for (unsigned int i = 0; i < r->slots; i++) {
        segment[i] = (xengnttab_grant_copy_segment_t){ .len = size_of(r, i), .flags = GNTCOPY_source_gref, .status = GNTST_general_error };
        segment[i].source.foreign.ref = r->slot[i].gref;
        segment[i].source.foreign.offset = r->slot[i].offset;
        segment[i].source.foreign.domid = frontend_domid;
        segment[i].dest.virt = to;
        to += segment[i].len;
    }
    int refused = xengnttab_grant_copy(gnttab, r->slots, segment);
    for (unsigned int i = 0; i < r->slots; i++) all &= good[i] = !refused && segment[i].status == GNTST_okay;
    return all;
}

/* Add a group to the multicast filter, or take it out. Returns 0 if there is no room. */
static int change_group(const unsigned char *address, int add)
{
    unsigned int i = 0;
    while (i < groups && memcmp(group[i], address, 6)) i++;
    if (!add) {
        if (i < groups) memcpy(group[i], group[--groups], 6);
    } else if (i == groups) {
        if (groups == MOST_GROUPS) return 0;
        memcpy(group[groups++], address, 6);
    }
    return 1;
}

static int change_groups(const struct request *r)
{
    int good = 1;
    for (unsigned int type = XEN_NETIF_EXTRA_TYPE_MCAST_ADD; type <= XEN_NETIF_EXTRA_TYPE_MCAST_DEL; type++)
        if (r->has[type]) good &= change_group(r->extra[type].u.mcast.addr, type == XEN_NETIF_EXTRA_TYPE_MCAST_ADD);
    return good;
}

static int filtered(const unsigned char *frame)
{
    static const unsigned char broadcast[6] = { 255, 255, 255, 255, 255, 255 };
    if (!takes.filter || !(frame[0] & 1) || !memcmp(frame, broadcast, 6)) return 0;
    for (unsigned int i = 0; i < groups; i++)
        if (!memcmp(group[i], frame, 6)) return 0;
    return 1;
}

/* What a frame becomes on its way to the guest. Returns 0 if it cannot go there. */
static int prepare(struct packet *p)
{
    struct checksum c;
    unsigned int slots = (p->length + PAGE - 1) / PAGE;
    if (filtered(p->frame) || (slots > 1 && !takes.sg)) return 0;
    if (p->gso_type && !takes.gso[p->gso_type]) return 0;
    if (!p->gso_type && !p->checksum_blank) return 1;
    if (!find_checksum(p->frame, p->length, &c)) return 0;
    if (!p->checksum_blank) blank(p->frame, &c);
    p->checksum_blank = 1;
    if (c.version == 4 ? takes.csum_v4 : takes.csum_v6) return 1;
    if (p->gso_type) return 0;
    complete_blank(p->frame, &c);
    p->checksum_blank = 0;
    p->validated = 1;
    return 1;
}

/* A packet of the guest becomes an echo. good[i] is whether slot i was taken. */
static void take_packet(struct queue *q, const struct request *r, int *good)
{
    static struct packet nowhere;
    struct packet *room = packets_room(&q->echo), *p = room ? room : &nowhere;
    int all = copy_in(r, p->frame, good);
    p->length = r->slot[0].size;
    p->checksum_blank = !!(r->slot[0].flags & NETTXF_csum_blank);
    p->validated = !!(r->slot[0].flags & (NETTXF_data_validated | NETTXF_csum_blank));
    if (r->has[XEN_NETIF_EXTRA_TYPE_GSO]) {
        p->gso_type = r->extra[XEN_NETIF_EXTRA_TYPE_GSO].u.gso.type;
        p->gso_size = r->extra[XEN_NETIF_EXTRA_TYPE_GSO].u.gso.size;
    }
    if (room && all && prepare(room)) packets_add(&q->echo);
}

static void answer(struct queue *q, uint16_t id, int16_t status)
{
    *RING_GET_RESPONSE(&q->tx, q->tx.rsp_prod_pvt) = (netif_tx_response_t){ .id = id, .status = status };
    q->tx.rsp_prod_pvt++;
}

static void answer_packet(struct queue *q, const struct request *r, const int *good)
{
    for (unsigned int i = 0; i < r->slots; i++) {
        answer(q, r->slot[i].id, good[i] ? NETIF_RSP_OKAY : NETIF_RSP_ERROR);
        for (unsigned int e = 0; !i && e < r->extras; e++) answer(q, 0, NETIF_RSP_NULL);
    }
    q->tx.req_cons += r->slots + r->extras;
}

/* The ring was in use before, and is entered where its last response stands. A response covers the
 * first four bytes of its slot only, so the flags of the request before tell whether that is in the
 * middle of a packet. Its rest is answered, and is no packet. */
static void refuse_rest(struct queue *q)
{
    netif_tx_request_t slot;
    RING_IDX prod = q->tx.sring->req_prod;
    RING_COPY_REQUEST(&q->tx, q->tx.req_cons - 1, &slot);
    for (int extra = slot.flags & NETTXF_extra_info; extra && q->tx.req_cons != prod; q->tx.req_cons++) {
        netif_extra_info_t info;
        netif_tx_request_t raw;
        RING_COPY_REQUEST(&q->tx, q->tx.req_cons, &raw);
        memcpy(&info, &raw, sizeof info);
        extra = info.flags & XEN_NETIF_EXTRA_FLAG_MORE;
        answer(q, 0, NETIF_RSP_NULL);
    }
    while (slot.flags & NETTXF_more_data && q->tx.req_cons != prod) {
        RING_COPY_REQUEST(&q->tx, q->tx.req_cons, &slot);
        q->tx.req_cons++;
        answer(q, slot.id, NETIF_RSP_ERROR);
    }
}

/* Returns whether there was anything to do. */
static int take_packets(struct queue *q)
{
    static struct request r;
    int work = 0;
    RING_IDX prod = __atomic_load_n(&q->tx.sring->req_prod, __ATOMIC_ACQUIRE);
    if (RING_REQUEST_PROD_OVERFLOW(&q->tx, prod)) { fatal("more requests than slots"); return 0; }
    while (queues) {
        int good[FATAL_SLOTS] = { 0 };
        enum verdict verdict = take_slots(q, prod, &r);
        if (verdict == NOTHING) break;
        if (verdict == FATAL) { fatal(r.why); return 0; }
        if (verdict == GOOD && (r.has[XEN_NETIF_EXTRA_TYPE_MCAST_ADD] || r.has[XEN_NETIF_EXTRA_TYPE_MCAST_DEL]))
            good[0] = change_groups(&r);
        else if (verdict == GOOD) take_packet(q, &r, good);
        answer_packet(q, &r, good);
        if (BUG(15) && verdict == WRONG) return -1;
        work = 1;
    }
    return work;
}

/* -- frames for the guest: requests of the rx ring are its buffers -------------------------------- */

/* One slot of a packet: buffer i of data, n slots of data in all. */
static void put_response(struct queue *q, const struct packet *p, unsigned int i, unsigned int n, uint16_t id, int16_t status)
{
    netif_rx_response_t rsp = { .id = id, .status = status };
    int last = i == n - 1;
    if (BUG(17) && p->gso_type) last = i + 1 >= n - 1; /* the extra info is counted too */
    if (!last) rsp.flags |= NETRXF_more_data;
    if (!i && p->gso_type) rsp.flags |= NETRXF_extra_info;
    if (!i && p->checksum_blank) rsp.flags |= NETRXF_csum_blank | NETRXF_data_validated;
    if (!i && p->validated) rsp.flags |= NETRXF_data_validated;
    if (BUG(2) && p->gso_type) rsp.flags &= ~(NETRXF_csum_blank | NETRXF_data_validated);
    *RING_GET_RESPONSE(&q->rx, q->rx.rsp_prod_pvt) = rsp;
    q->rx.rsp_prod_pvt++;
}

static void put_gso(struct queue *q, const struct packet *p)
{
    netif_extra_info_t info = { .type = XEN_NETIF_EXTRA_TYPE_GSO };
    info.u.gso.size = p->gso_size;
    info.u.gso.type = p->gso_type;
    memcpy(RING_GET_RESPONSE(&q->rx, q->rx.rsp_prod_pvt), &info, sizeof(netif_rx_response_t));
    q->rx.rsp_prod_pvt++;
}

/* Buffers that a packet needs: for its data, and one whose response is an extra info. */
static unsigned int buffers_for(const struct packet *p) { return (p->length + PAGE - 1) / PAGE + !!p->gso_type; }

/* Copy a packet into the guest's buffers and answer their requests, each in its own slot. */
static void give_packet(struct queue *q, const struct packet *p)
{
    xengnttab_grant_copy_segment_t segment[MOST_SLOTS];
    uint16_t id[MOST_SLOTS];
    unsigned int n = (p->length + PAGE - 1) / PAGE;
    for (unsigned int i = 0; i < n; i++) {
        netif_rx_request_t req;
        RING_COPY_REQUEST(&q->rx, q->rx.req_cons, &req);
        q->rx.req_cons += !i && p->gso_type ? 2 : 1;
        id[i] = req.id;
        segment[i] = (xengnttab_grant_copy_segment_t){ .len = i < n - 1 ? PAGE : p->length - i * PAGE,
            .flags = GNTCOPY_dest_gref, .status = GNTST_general_error };
        segment[i].source.virt = (unsigned char *)p->frame + i * PAGE;
        segment[i].dest.foreign.ref = req.gref;
        segment[i].dest.foreign.offset = 0;
        segment[i].dest.foreign.domid = frontend_domid;
    }
    int refused = xengnttab_grant_copy(gnttab, n, segment);
    for (unsigned int i = 0; i < n; i++) {
        int good = !refused && segment[i].status == GNTST_okay;
        put_response(q, p, i, n, id[i], good ? (int16_t)segment[i].len : NETIF_RSP_ERROR);
        if (!i && p->gso_type) put_gso(q, p);
    }
}

static int give_packets(struct queue *q)
{
    int work = 0;
    struct packet *p;
    RING_IDX prod = __atomic_load_n(&q->rx.sring->req_prod, __ATOMIC_ACQUIRE);
    if (RING_REQUEST_PROD_OVERFLOW(&q->rx, prod)) { fatal("more buffers than slots"); return 0; }
    while ((p = packets_oldest(&q->echo)) && prod - q->rx.req_cons >= buffers_for(p)) {
        give_packet(q, p);
        packets_drop_oldest(&q->echo);
        work = 1;
    }
    return work;
}

/* -- events ------------------------------------------------------------------------------------- */

/* Publish the responses of both rings, with one event if they have one channel. */
static void publish(struct queue *q)
{
    int tx, rx;
    RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&q->tx, tx);
    RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&q->rx, rx);
    if (tx) xenevtchn_notify(evtchn, q->tx_port);
    if (rx && !(tx && q->rx_port == q->tx_port)) xenevtchn_notify(evtchn, q->rx_port);
}

/* Ask for an event and look once more: for a request, and for enough buffers. Returns whether there
 * is more to do. */
static int serve(struct queue *q)
{
    int more, taken = take_packets(q), given = queues ? give_packets(q) : 0;
    if (!queues) return 0;
    publish(q);
    if (BUG(15) && taken < 0) {
        q->tx.sring->req_event = q->tx.req_cons + 1;
        return 0;
    }
    if (BUG(25)) {
        q->tx.sring->req_event = q->tx.req_cons + 1;
        q->rx.sring->req_event = q->rx.req_cons + 1;
        return 0;
    }
    if (taken || given) return 1;
    struct packet *p = packets_oldest(&q->echo);
    unsigned int wanted = p ? buffers_for(p) : 1;
    q->rx.sring->req_event = q->rx.req_cons + wanted;
    xen_mb();
    if (p && q->rx.sring->req_prod - q->rx.req_cons >= wanted) return 1;
    RING_FINAL_CHECK_FOR_REQUESTS(&q->tx, more);
    return more;
}

/* -- connecting --------------------------------------------------------------------------------- */

static void *map_ring(const char *directory, const char *key)
{
    long ref = read_number(directory, key, -1);
    return ref < 0 || ref > UINT32_MAX ? NULL
        : xengnttab_map_grant_ref(gnttab, frontend_domid, (uint32_t)ref, PROT_READ | PROT_WRITE);
}

static xenevtchn_port_or_error_t bind_port(const char *directory, const char *key)
{
    long port = read_number(directory, key, -1);
    return port < 0 || port > INT32_MAX ? -1 : xenevtchn_bind_interdomain(evtchn, frontend_domid, (evtchn_port_t)port);
}

static const char *connect_queue(struct queue *q, const char *directory)
{
    if (!(q->tx.sring = map_ring(directory, "tx-ring-ref"))) return "tx-ring-ref is no reference of a ring";
    if (!(q->rx.sring = map_ring(directory, "rx-ring-ref"))) return "rx-ring-ref is no reference of a ring";
    if (read_number(directory, "event-channel-tx", -1) >= 0) {
        q->tx_port = bind_port(directory, "event-channel-tx");
        q->rx_port = bind_port(directory, "event-channel-rx");
    } else q->tx_port = q->rx_port = bind_port(directory, "event-channel");
    if (q->tx_port < 0 || q->rx_port < 0) return "no event channel can be bound";
    if (BUG(6)) {
        SHARED_RING_INIT(q->tx.sring);
        SHARED_RING_INIT(q->rx.sring);
    }
    /* Rings may have been in use before: they go on where they are. */
    RING_IDX tx = q->tx.sring->rsp_prod, rx = q->rx.sring->rsp_prod;
    BACK_RING_ATTACH(&q->tx, q->tx.sring, tx, PAGE);
    BACK_RING_ATTACH(&q->rx, q->rx.sring, rx, PAGE);
    if (RING_REQUEST_PROD_OVERFLOW(&q->tx, q->tx.sring->req_prod)) return "more requests than slots";
    if (RING_REQUEST_PROD_OVERFLOW(&q->rx, q->rx.sring->req_prod)) return "more buffers than slots";
    if (!BUG(22)) refuse_rest(q);
    return NULL;
}

static const char *connect_frontend(void)
{
    char directory[192];
    const char *why = NULL;
    long wanted = read_number(frontend_path, "multi-queue-num-queues", -1);
    char *asked = read_node(frontend_path, "multi-queue-num-queues");
    if (!asked) wanted = 1;
    free(asked);
    if (wanted < 1 || wanted > (long)MOST_QUEUES) return "no such number of queues";
    if (read_number(frontend_path, "request-rx-copy", 0) != 1) return "request-rx-copy is not 1";
    takes.sg = read_number(frontend_path, "feature-sg", 0) == 1;
    takes.gso[XEN_NETIF_GSO_TYPE_TCPV4] = read_number(frontend_path, "feature-gso-tcpv4", 0) == 1;
    takes.gso[XEN_NETIF_GSO_TYPE_TCPV6] = read_number(frontend_path, "feature-gso-tcpv6", 0) == 1;
    takes.csum_v4 = read_number(frontend_path, "feature-no-csum-offload", 0) != 1;
    takes.csum_v6 = read_number(frontend_path, "feature-ipv6-csum-offload", 0) == 1;
    for (long i = 0; i < wanted && !why; i++) {
        if (wanted == 1) snprintf(directory, sizeof directory, "%s", frontend_path);
        else snprintf(directory, sizeof directory, "%s/queue-%ld", frontend_path, i);
        why = connect_queue(&queue[i], directory);
    }
    if (!why) queues = (unsigned int)wanted;
    return why;
}

/* -- the life of the device --------------------------------------------------------------------- */

static void publish_features(void)
{
    write_number("feature-rx-copy", 1);
    write_number("feature-rx-flip", 0);
    write_number("feature-sg", 1);
    write_number("feature-gso-tcpv4", 1);
    write_number("feature-gso-tcpv6", 1);
    write_number("feature-ipv6-csum-offload", 1);
    write_number("feature-multicast-control", 1);
    write_number("feature-dynamic-multicast-control", 1);
    write_number("feature-split-event-channels", 1);
    write_number("multi-queue-max-queues", MOST_QUEUES);
}

/* What we offer is there before InitWait says so. */
static void begin(void)
{
    if (BUG(21)) show_state(XenbusStateInitWait);
    publish_features();
    show_state(XenbusStateInitWait);
}

/* With a script the interface is plugged in when that says so, in nine bytes and no more. */
static int plugged_in(void)
{
    unsigned int length = 0;
    char *script = read_node(own_path, "script"), path[256];
    snprintf(path, sizeof path, "%s/hotplug-status", own_path);
    char *status = xs_read(store, XBT_NULL, path, &length);
    int done = !script || (status && length == 9 && !memcmp(status, "connected", 9));
    free(script);
    free(status);
    return done;
}

static void connect(void)
{
    if (shown == XenbusStateConnected) return;
    if (shown == XenbusStateClosing) {
        if (BUG(18)) abort();
        show_state(XenbusStateClosed);
    }
    if (shown != XenbusStateInitWait) begin();
    if (!plugged_in()) return;
    const char *why = connect_frontend();
    if (why) fatal(why);
    else show_state(XenbusStateConnected);
}

/* Nothing of the frontend's is used any more when we show that we close. */
static void close_down(enum xenbus_state state)
{
    if (BUG(3) && shown == XenbusStateInitWait) return;
    if (BUG(9) && state == XenbusStateClosed && shown == XenbusStateConnected) return;
    if (!BUG(8)) disconnect();
    else queues = 0;
    show_state(state);
    if (BUG(4) && state == XenbusStateClosed) xs_rm(store, XBT_NULL, own_path);
}

/* What a new state of the frontend asks for. */
static void frontend_changed(void)
{
    static enum xenbus_state before = XenbusStateUnknown;
    enum xenbus_state theirs = read_number(frontend_path, "state", XenbusStateUnknown);
    if (!there()) { /* whoever made it has taken it away, and may make it again */
        disconnect();
        shown = before = XenbusStateUnknown;
        return;
    }
    takes.filter = read_number(frontend_path, "request-multicast-control", 0) == 1; /* at any time */
    int plugging = theirs == XenbusStateConnected && shown == XenbusStateInitWait;
    if (theirs == before && !plugging) return;
    before = theirs;
    switch (theirs) {
    case XenbusStateInitialising:
        if (shown == XenbusStateConnected || shown == XenbusStateClosing) {
            close_down(XenbusStateClosing);
            close_down(XenbusStateClosed);
        }
        if (shown != XenbusStateInitWait) begin();
        break;
    case XenbusStateConnected:
        connect();
        break;
    case XenbusStateClosing:
        if (shown != XenbusStateClosed) close_down(XenbusStateClosing);
        break;
    case XenbusStateClosed:
    case XenbusStateUnknown: /* its directory is gone */
        close_down(XenbusStateClosed);
        break;
    default:
        break;
    }
}

static void wait_for_events(void)
{
    struct pollfd f[] = { { .fd = xs_fileno(store), .events = POLLIN }, { .fd = xenevtchn_fd(evtchn), .events = POLLIN } };
    if (polls) usleep(2000);
    if (poll(f, 2, polls ? 0 : -1) < 0 && errno != EINTR) exit(1);
    if (f[1].revents) xenevtchn_unmask(evtchn, xenevtchn_pending(evtchn));
}

static void options(int argc, char **argv)
{
    unsigned int handle = 0, length;
    for (int c; (c = getopt(argc, argv, "d:v:p")) != -1; ) switch (c) {
    case 'd': frontend_domid = atoi(optarg); break;
    case 'v': handle = atoi(optarg); break;
    case 'p': polls = 1; break;
    default: exit(2);
    }
    char *domid = xs_read(store, XBT_NULL, "domid", &length);
    const char *own = domid ? domid : "0";
    snprintf(own_path, sizeof own_path, "/local/domain/%s/backend/vif/%u/%u", own, frontend_domid, handle);
    snprintf(error_path, sizeof error_path, "/local/domain/%s/error/backend/vif/%u/%u", own, frontend_domid, handle);
    snprintf(frontend_path, sizeof frontend_path, "/local/domain/%u/device/vif/%u", frontend_domid, handle);
    free(domid);
}

int main(int argc, char **argv)
{
    store = xs_open(0);
    gnttab = xengnttab_open(NULL, 0);
    evtchn = xenevtchn_open(NULL, 0);
    if (!store || !gnttab || !evtchn) { perror("check_netback: no Xen"); return 1; }
    for (struct queue *q = queue; q < queue + MOST_QUEUES; q++) q->tx_port = q->rx_port = -1;
    options(argc, argv);
    xs_watch(store, own_path, "own");
    xs_watch(store, frontend_path, "frontend");
    for (;;) {
        int work = 0;
        for (char **event; (event = xs_check_watch(store)); work = 1) {
            free(event);
            frontend_changed();
        }
        for (unsigned int i = 0; i < queues; i++) work |= serve(&queue[i]);
        if (!work) wait_for_events();
    }
}
