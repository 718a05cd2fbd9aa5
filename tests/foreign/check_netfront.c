/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A network frontend for the conformance suite, as the kernel of its domain (xennet-guest.h): it
 * sends every frame back that comes. From the public headers (xen/io/netif.h, ring.h, xenbus.h,
 * grant_table.h, event_channel.h): several queues, split event channels, chains, GSO, checksums,
 * closing and connecting again at any time. It trusts its backend with nothing: one that breaks the
 * protocol loses the vif, with a word in the error node, until it begins again.
 *
 *   check_netfront [-v HANDLE] [-q QUEUES]
 *
 * Compiled with -DBUG_n it has bug n of bugs.toml. */
#include "xennet-guest.h" /* before Xen's headers: it says which version of the interface is meant */

#include <unistd.h>
#include <xen/io/ring.h>
#include <xen/io/netif.h>
#include <xen/io/xenbus.h>

#include "bugs.h"
#include "echo_packets.h"
#include "store_ring.h"

#define PAGE XENNET_PAGE_SIZE
#define SLOTS 256U           /* of either ring */
#define MOST_QUEUES 2U
#define TABLE_FRAMES 4U      /* of the grant table: 512 entries a frame */
#define MOST_SLOTS XEN_NETIF_NR_SLOTS_MIN
#define MTU 1500U

/* A page with its reference, which are the other end's while granted. */
struct buffer { grant_ref_t ref; unsigned char *page; int granted; };

struct queue {
    netif_tx_front_ring_t tx;
    netif_rx_front_ring_t rx;
    struct buffer tx_ring, rx_ring, tx_buffer[SLOTS], rx_buffer[SLOTS];
    uint16_t tx_free[SLOTS];
    unsigned int tx_frees, tx_extras; /* ids that are free; extra infos that are not answered */
    evtchn_port_t tx_port, rx_port;
    struct packets echo;
};

static struct queue queue[MOST_QUEUES];
static unsigned int queues, most_queues = 1;
static char device_path[64], error_path[80], backend_path[256], watched_path[256];
static domid_t backend_domid;
static struct { int sg, gso[XEN_NETIF_GSO_TYPE_TCPV6 + 1], csum_v4, csum_v6, split; } takes;
static int sending;     /* the backend has said that it is Connected */
static int link_up = 1; /* as its carrier node says */

/* -- the grant table ---------------------------------------------------------------------------- */

static grant_entry_v1_t *grant_table;
static grant_ref_t next_ref = GNTTAB_NR_RESERVED_ENTRIES;

/* Introducing a valid entry: the flags come last, and make it valid. */
static void grant(struct buffer *b, int readonly)
{
    grant_entry_v1_t *entry = &grant_table[b->ref];
    entry->frame = (uint32_t)xennet_virt_to_frame(b->page);
    entry->domid = backend_domid;
    xen_wmb();
    __atomic_store_n(&entry->flags, GTF_permit_access | (readonly ? GTF_readonly : 0), __ATOMIC_RELEASE);
    b->granted = 1;
}

/* Invalidating an entry: only while neither reading nor writing is set. Returns 0 while it is used. */
static int end_access(struct buffer *b)
{
    uint16_t *word = &grant_table[b->ref].flags, flags = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    do if (flags & (GTF_reading | GTF_writing) && !BUG(24)) return 0;
    while (!__atomic_compare_exchange_n(word, &flags, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    b->granted = 0;
    return 1;
}

static void buffers_make(struct buffer *b, unsigned int count)
{
    unsigned char *pages = xennet_alloc_pages(count);
    if (!pages || next_ref + count > TABLE_FRAMES * PAGE / sizeof *grant_table) {
        fprintf(stderr, "check_netfront: no memory\n");
        exit(1);
    }
    for (unsigned int i = 0; i < count; i++) b[i] = (struct buffer){ next_ref++, pages + i * PAGE, 0 };
}

/* Buffers that the other end has kept in use: they are nothing else before it lets go. */
static struct buffer kept[2 * MOST_QUEUES * (SLOTS + 1)];
static unsigned int nr_kept, nr_spare; /* spare ones are behind them */

/* Take a buffer back, and have another one in its place if the other end still uses it. */
static void buffer_end(struct buffer *b)
{
    if (!b->granted || end_access(b)) return;
    fprintf(stderr, "check_netfront: reference %u is still in use\n", b->ref);
    if (nr_kept + nr_spare == sizeof kept / sizeof *kept) {
        fprintf(stderr, "check_netfront: the backend keeps everything\n");
        exit(1);
    }
    struct buffer used = *b;
    if (nr_spare) *b = kept[nr_kept + --nr_spare];
    else buffers_make(b, 1);
    kept[nr_kept + nr_spare] = kept[nr_kept];
    kept[nr_kept++] = used;
}

/* The other end does not say when it lets go. */
static void look_at_kept(void)
{
    for (unsigned int i = 0; i < nr_kept; )
        if (end_access(&kept[i])) {
            struct buffer spare = kept[i];
            kept[i] = kept[--nr_kept];
            kept[nr_kept] = spare;
            nr_spare++;
        } else i++;
}

/* -- what does not stand in the protocol ---------------------------------------------------------- */

static enum xenbus_state shown;

static void show_state(enum xenbus_state state)
{
    char value[8];
    if (state == shown || store_read(0, device_path, "state", value, sizeof value)) return;
    store_write(0, device_path, "state", state);
    shown = state;
}

/* Nothing of this connection is believed any more. The pages stay until the backend has closed. */
static void broken(const char *why)
{
    char path[128];
    fprintf(stderr, "check_netfront: %s\n", why);
    snprintf(path, sizeof path, "%s/error", error_path);
    store_ask(XS_WRITE, 0, 2, (const char *const[]){ path, why }, (const int[]){ 1, 0 });
    queues = 0;
    show_state(XenbusStateClosing);
}

/* -- receiving ---------------------------------------------------------------------------------- */

/* Give the backend a page to fill. As it answers in order, the request in slot i has id i. */
static void post_buffer(struct queue *q)
{
    uint16_t id = q->rx.req_prod_pvt % SLOTS;
    memset(q->rx_buffer[id].page, 0, PAGE); /* the other end reads what is there */
    grant(&q->rx_buffer[id], 0);
    *RING_GET_REQUEST(&q->rx, q->rx.req_prod_pvt) = (netif_rx_request_t){ .id = id, .gref = q->rx_buffer[id].ref };
    q->rx.req_prod_pvt++;
}

/* What comes goes back as it is, if the backend takes it like that. Returns 0 if it does not. */
static int prepare(struct packet *p)
{
    struct checksum c;
    if (BUG(10) && !p->gso_type && p->length > MTU) return 0;
    if (p->length < 14 || (p->length > PAGE && !takes.sg)) return 0;
    if (p->gso_type && !takes.gso[p->gso_type]) return 0;
    if (!p->gso_type && !p->checksum_blank) return 1;
    if (BUG(11) || !find_checksum(p->frame, p->length, &c)) return 0;
    if (!p->checksum_blank) blank(p->frame, &c);
    p->checksum_blank = 1;
    if (c.version == 4 ? takes.csum_v4 : takes.csum_v6) return 1;
    if (p->gso_type) return 0;
    complete_blank(p->frame, &c);
    p->checksum_blank = 0;
    p->validated = 1;
    return 1;
}

/* The extra infos of a packet. Returns whether all are there and known. */
static int take_extras(struct queue *q, RING_IDX prod, struct packet *p)
{
    int good = 1, more = 1;
    while (more) {
        netif_rx_response_t raw;
        netif_extra_info_t info;
        if (q->rx.rsp_cons == prod) return 0;
        RING_COPY_RESPONSE(&q->rx, q->rx.rsp_cons, &raw);
        memcpy(&info, &raw, sizeof raw);
        more = info.flags & XEN_NETIF_EXTRA_FLAG_MORE;
        q->rx.rsp_cons++; /* its buffer was not used: it is posted again with the others */
        if (info.type == XEN_NETIF_EXTRA_TYPE_GSO) {
            p->gso_type = info.u.gso.type;
            p->gso_size = info.u.gso.size;
            good &= info.u.gso.size && (p->gso_type == XEN_NETIF_GSO_TYPE_TCPV4 || p->gso_type == XEN_NETIF_GSO_TYPE_TCPV6);
        } else good &= info.type > XEN_NETIF_EXTRA_TYPE_NONE && info.type < XEN_NETIF_EXTRA_TYPE_MAX;
    }
    return good;
}

/* One packet: responses as long as there is more_data. Buffers are ours when their access has
 * ended, and are told apart by the slot. What is wrong with a packet costs that packet. */
static void take_packet(struct queue *q, RING_IDX prod)
{
    static struct packet nowhere;
    struct packet *room = packets_room(&q->echo), *p = room ? room : &nowhere;
    int good = 1, more = 1;
    unsigned int slots = 0;
    while (more && queues) {
        netif_rx_response_t rsp;
        if (q->rx.rsp_cons == prod) { good = 0; break; }
        struct buffer *b = &q->rx_buffer[q->rx.rsp_cons % SLOTS];
        RING_COPY_RESPONSE(&q->rx, q->rx.rsp_cons, &rsp);
        q->rx.rsp_cons++;
        if (!b->granted || !end_access(b)) { broken("a buffer that is answered is still in use"); return; }
        more = rsp.flags & NETRXF_more_data;
        if (!slots++) {
            p->checksum_blank = !!(rsp.flags & NETRXF_csum_blank);
            p->validated = !!(rsp.flags & (NETRXF_data_validated | NETRXF_csum_blank));
            if (rsp.flags & NETRXF_extra_info) good &= take_extras(q, prod, p);
        }
        if (rsp.status < 0 || rsp.offset + rsp.status > (int)PAGE || slots > MOST_SLOTS
            || p->length + rsp.status > MOST_FRAME) good = 0;
        else if (good) {
            memcpy(p->frame + p->length, b->page + rsp.offset, rsp.status);
            p->length += rsp.status;
        }
    }
    if (good && room && link_up && prepare(room)) packets_add(&q->echo);
}

static int take_responses(struct queue *q)
{
    RING_IDX before = q->rx.rsp_cons, prod = __atomic_load_n(&q->rx.sring->rsp_prod, __ATOMIC_ACQUIRE);
    if (RING_RESPONSE_PROD_OVERFLOW(&q->rx, prod) || prod - before > q->rx.req_prod_pvt - before) {
        broken("more buffers are answered than were posted");
        return 0;
    }
    while (q->rx.rsp_cons != prod && queues) take_packet(q, prod);
    if (!queues) return 0;
    while (q->rx.req_prod_pvt - q->rx.rsp_cons < SLOTS) {
        struct buffer *b = &q->rx_buffer[q->rx.req_prod_pvt % SLOTS];
        if (b->granted && !end_access(b)) { broken("the buffer of an extra info is still in use"); return 0; }
        post_buffer(q);
    }
    return before != prod;
}

/* -- sending ------------------------------------------------------------------------------------ */

/* Responses give ids back, one for each slot; those of extra infos have none. */
static int take_answers(struct queue *q)
{
    int work = 0;
    RING_IDX prod = __atomic_load_n(&q->tx.sring->rsp_prod, __ATOMIC_ACQUIRE);
    if (RING_RESPONSE_PROD_OVERFLOW(&q->tx, prod) || prod - q->tx.rsp_cons > q->tx.req_prod_pvt - q->tx.rsp_cons) {
        broken("more requests are answered than were made");
        return 0;
    }
    for (; q->tx.rsp_cons != prod; q->tx.rsp_cons++, work = 1) {
        netif_tx_response_t rsp;
        RING_COPY_RESPONSE(&q->tx, q->tx.rsp_cons, &rsp);
        if (rsp.status == NETIF_RSP_NULL && q->tx_extras) {
            q->tx_extras--;
            continue;
        }
        if (rsp.status == NETIF_RSP_NULL) { broken("an extra info is answered that was not sent"); return 0; }
        if (rsp.id >= SLOTS || !q->tx_buffer[rsp.id].granted) { broken("a request is answered that was not made"); return 0; }
        if (!end_access(&q->tx_buffer[rsp.id])) { broken("a page that is answered is still in use"); return 0; }
        q->tx_free[q->tx_frees++] = rsp.id;
    }
    return work;
}

static void put_gso(struct queue *q, const struct packet *p)
{
    netif_extra_info_t info = { .type = XEN_NETIF_EXTRA_TYPE_GSO };
    info.u.gso.size = p->gso_size;
    info.u.gso.type = p->gso_type;
    memcpy(RING_GET_REQUEST(&q->tx, q->tx.req_prod_pvt), &info, sizeof info);
    q->tx.req_prod_pvt++;
    q->tx_extras++;
}

static unsigned int pages_of(const struct packet *p) { return (p->length + PAGE - 1) / PAGE; }

/* The first request has the size of the whole packet, the others have their own. */
static void put_packet(struct queue *q, const struct packet *p)
{
    unsigned int n = pages_of(p);
    for (unsigned int i = 0; i < n; i++) {
        uint16_t id = q->tx_free[--q->tx_frees];
        struct buffer *b = &q->tx_buffer[id];
        unsigned int part = i < n - 1 ? PAGE : p->length - i * PAGE;
        netif_tx_request_t req = { .gref = b->ref, .offset = 0, .id = id, .size = i || BUG(1) ? part : p->length };
        if (i < n - 1 && !BUG(1)) req.flags |= NETTXF_more_data;
        if (!i && p->gso_type) req.flags |= NETTXF_extra_info;
        if (!i && p->checksum_blank) req.flags |= NETTXF_csum_blank | NETTXF_data_validated;
        if (!i && p->validated) req.flags |= NETTXF_data_validated;
        if (BUG(14)) {
            req.id = req.size;
            req.size = id;
        }
        memcpy(b->page, p->frame + i * PAGE, part);
        memset(b->page + part, 0, PAGE - part);
        grant(b, 1);
        *RING_GET_REQUEST(&q->tx, q->tx.req_prod_pvt) = req;
        q->tx.req_prod_pvt++;
        if (!i && p->gso_type) put_gso(q, p);
    }
}

static int send_packets(struct queue *q)
{
    int work = 0;
    for (struct packet *p; (sending || BUG(5)) && link_up && (p = packets_oldest(&q->echo)); work = 1) {
        if (RING_FREE_REQUESTS(&q->tx) < pages_of(p) + !!p->gso_type || q->tx_frees < pages_of(p)) break;
        put_packet(q, p);
        packets_drop_oldest(&q->echo);
    }
    return work;
}

/* -- events ------------------------------------------------------------------------------------- */

static void notify(evtchn_port_t port)
{
    evtchn_send_t send = { .port = port };
    HYPERVISOR_event_channel_op(EVTCHNOP_send, &send);
}

/* Publish the requests of both rings, with one event if they have one channel. */
static void publish(struct queue *q)
{
    int tx, rx;
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&q->tx, tx);
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&q->rx, rx);
    if (tx) notify(q->tx_port);
    if (rx && !(tx && q->rx_port == q->tx_port)) notify(q->rx_port);
}

/* Before sleep: ask for an event, then look once more. Returns whether there is more to do. */
static int serve(struct queue *q)
{
    int more_tx, more_rx, work = take_answers(q);
    if (queues) work |= take_responses(q);
    if (!queues) return 0;
    work |= send_packets(q);
    publish(q);
    if (work) return 1;
    RING_FINAL_CHECK_FOR_RESPONSES(&q->tx, more_tx);
    RING_FINAL_CHECK_FOR_RESPONSES(&q->rx, more_rx);
    return more_tx || more_rx;
}

/* -- connecting --------------------------------------------------------------------------------- */

static void make_rings(struct queue *q)
{
    if (!q->tx_ring.page) {
        buffers_make(&q->tx_ring, 1);
        buffers_make(&q->rx_ring, 1);
        buffers_make(q->tx_buffer, SLOTS);
        buffers_make(q->rx_buffer, SLOTS);
    }
    SHARED_RING_INIT((netif_tx_sring_t *)q->tx_ring.page);
    FRONT_RING_INIT(&q->tx, (netif_tx_sring_t *)q->tx_ring.page, PAGE);
    SHARED_RING_INIT((netif_rx_sring_t *)q->rx_ring.page);
    FRONT_RING_INIT(&q->rx, (netif_rx_sring_t *)q->rx_ring.page, PAGE);
    grant(&q->tx_ring, 0);
    grant(&q->rx_ring, 0);
    for (unsigned int id = 0; id < SLOTS; id++) q->tx_free[id] = SLOTS - 1 - id;
    q->tx_frees = SLOTS;
    q->tx_extras = 0;
    for (unsigned int i = 0; i < SLOTS; i++) post_buffer(q);
    RING_PUSH_REQUESTS(&q->rx);
}

static evtchn_port_t open_port(void)
{
    evtchn_alloc_unbound_t alloc = { .dom = DOMID_SELF, .remote_dom = backend_domid };
    int rc = HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &alloc);
    if (rc) { fprintf(stderr, "check_netfront: no port: %s\n", strerror(-rc)); exit(1); }
    xennet_unmask_port(alloc.port);
    return alloc.port;
}

static void publish_queue(uint32_t t, const struct queue *q, const char *directory)
{
    store_write(t, directory, "tx-ring-ref", q->tx_ring.ref);
    store_write(t, directory, "rx-ring-ref", q->rx_ring.ref);
    if (q->tx_port == q->rx_port) store_write(t, directory, "event-channel", q->tx_port);
    else {
        store_write(t, directory, "event-channel-tx", q->tx_port);
        store_write(t, directory, "event-channel-rx", q->rx_port);
    }
}

/* All keys in one transaction: the backend sees none of them or all. Those of an earlier connection
 * go. */
static void publish_keys(unsigned int count)
{
    static int again;
    static const char *const flat[] = { "tx-ring-ref", "rx-ring-ref", "event-channel", "event-channel-tx",
                                        "event-channel-rx", "queue-0", "queue-1", "multi-queue-num-queues" };
    char path[128];
    for (int tries = 0; tries < STORE_TRIES; tries++) {
        uint32_t t = store_begin();
        for (unsigned int i = 0; again && i < sizeof flat / sizeof *flat; i++) {
            snprintf(path, sizeof path, "%s/%s", device_path, flat[i]);
            store_ask(XS_RM, t, 1, (const char *const[]){ path }, (const int[]){ 1 });
        }
        for (unsigned int i = 0; i < count; i++) {
            snprintf(path, sizeof path, count > 1 ? "%s/queue-%u" : "%s", device_path, i);
            publish_queue(t, &queue[i], path);
        }
        if (count > 1) store_write(t, device_path, "multi-queue-num-queues", count);
        store_write(t, device_path, "request-rx-copy", 1);
        store_write(t, device_path, "feature-rx-notify", 1);
        store_write(t, device_path, "feature-sg", 1);
        store_write(t, device_path, "feature-gso-tcpv4", 1);
        store_write(t, device_path, "feature-gso-tcpv6", 1);
        store_write(t, device_path, "feature-ipv6-csum-offload", 1);
        if (store_commit(t) != -EAGAIN) {
            again = 1;
            return;
        }
    }
    fprintf(stderr, "check_netfront: the store has no rest\n");
    exit(1);
}

static int backend_says(const char *name) { return store_number(backend_path, name, 0) == 1; }

static int has_address(void)
{
    unsigned int byte[6], length = 0;
    char value[32];
    store_read(0, device_path, "mac", value, sizeof value);
    return sscanf(value, "%2x:%2x:%2x:%2x:%2x:%2x%n", byte, byte + 1, byte + 2, byte + 3, byte + 4, byte + 5, &length) == 6
        && length == 17 && !value[17];
}

static void connect_backend(void)
{
    if (!backend_says("feature-rx-copy")) { broken("the backend has no feature-rx-copy: it only flips pages"); return; }
    if (!has_address()) { broken("mac is no address"); return; }
    takes.sg = backend_says("feature-sg");
    takes.gso[XEN_NETIF_GSO_TYPE_TCPV4] = backend_says("feature-gso-tcpv4");
    takes.gso[XEN_NETIF_GSO_TYPE_TCPV6] = backend_says("feature-gso-tcpv6");
    takes.csum_v4 = !backend_says("feature-no-csum-offload");
    takes.csum_v6 = backend_says("feature-ipv6-csum-offload");
    takes.split = backend_says("feature-split-event-channels");
    backend_domid = (domid_t)store_number(device_path, "backend-id", 0);
    unsigned long offered = store_number(backend_path, "multi-queue-max-queues", 1);
    unsigned int count = offered < 1 ? 1 : offered < most_queues ? (unsigned int)offered : most_queues;
    for (unsigned int i = 0; i < count; i++) {
        make_rings(&queue[i]);
        queue[i].tx_port = queue[i].rx_port = open_port();
        if (takes.split) queue[i].rx_port = open_port();
    }
    publish_keys(count);
    queues = count;
    show_state(XenbusStateConnected);
}

static void close_port(evtchn_port_t port)
{
    evtchn_close_t close = { .port = port };
    xennet_mask_port(port);
    HYPERVISOR_event_channel_op(EVTCHNOP_close, &close);
}

/* Only when the backend has shown Closed, or is gone: until then it may have our pages mapped. */
static void disconnect_backend(void)
{
    for (struct queue *q = queue; q < queue + MOST_QUEUES; q++) {
        if (!q->tx_port) continue;
        close_port(q->tx_port);
        if (q->rx_port != q->tx_port) close_port(q->rx_port);
        q->tx_port = q->rx_port = 0;
        buffer_end(&q->tx_ring);
        buffer_end(&q->rx_ring);
        for (unsigned int i = 0; i < SLOTS; i++) {
            buffer_end(&q->tx_buffer[i]);
            buffer_end(&q->rx_buffer[i]);
        }
        packets_drop_all(&q->echo);
    }
    queues = 0;
    sending = 0;
}

/* -- the life of the device --------------------------------------------------------------------- */

static int ending, shutdown_reason = -1;

/* Follow the toolstack: which backend is ours, if any. Returns whether there is one. */
static int find_backend(void)
{
    static const char *const watched[] = { "state", "carrier" };
    char path[300];
    if (store_read(0, device_path, "backend", backend_path, sizeof backend_path)) return 0;
    if (!strcmp(backend_path, watched_path)) return 1;
    for (unsigned int i = 0; i < sizeof watched / sizeof *watched; i++) {
        snprintf(path, sizeof path, "%s/%s", watched_path, watched[i]);
        if (*watched_path) store_unwatch(path);
        snprintf(path, sizeof path, "%s/%s", backend_path, watched[i]);
        store_watch(path);
    }
    snprintf(watched_path, sizeof watched_path, "%s", backend_path);
    return 1;
}

/* Answer a backend while we start. One that is Connected serves somebody before us: it has to close.
 * Returns whether there is nothing else to do. */
static int begin(enum xenbus_state theirs)
{
    if (theirs == XenbusStateClosing) return 0;
    disconnect_backend();
    if (theirs == XenbusStateInitWait) connect_backend();
    else if (theirs == XenbusStateConnected) show_state(XenbusStateClosing);
    return 1;
}

/* The backend's state asks for something; what depends on ours. */
static void backend_changed(void)
{
    int there = find_backend();
    enum xenbus_state theirs = there ? store_number(backend_path, "state", XenbusStateUnknown) : XenbusStateUnknown;
    shown = store_number(device_path, "state", XenbusStateUnknown);
    link_up = !there || store_number(backend_path, "carrier", 1) != 0;
    if (shown == XenbusStateInitialising && !ending && begin(theirs)) return;
    switch (theirs) {
    case XenbusStateInitWait: /* another one has begun */
        if (shown != XenbusStateClosed || ending) break;
        disconnect_backend();
        show_state(XenbusStateInitialising);
        break;
    case XenbusStateConnected:
        sending = shown == XenbusStateConnected;
        break;
    case XenbusStateClosing: /* it has, or wants, to stop; it unmaps when we show Closed */
        queues = 0;
        show_state(XenbusStateClosed);
        break;
    case XenbusStateClosed: /* if it stays, both begin again */
        disconnect_backend();
        if (there) show_state(XenbusStateClosed);
        if (there && !ending && backend_says("online")) show_state(XenbusStateInitialising);
        break;
    case XenbusStateUnknown: /* there is no backend, or no device any more */
        disconnect_backend();
        break;
    default:
        break;
    }
}

/* The toolstack's wish, which is acknowledged by emptying the node. */
static void control_changed(void)
{
    char value[32];
    if (ending || store_read(0, "control", "shutdown", value, sizeof value) || !*value) return;
    shutdown_reason = strcmp(value, "reboot") ? SHUTDOWN_poweroff : SHUTDOWN_reboot;
    store_ask(XS_WRITE, 0, 2, (const char *const[]){ "control/shutdown", "" }, (const int[]){ 1, 0 });
    ending = 1;
    if (queues) show_state(XenbusStateClosing);
}

/* An event means: look at everything. So a port's handler has nothing to do. */
static void event(evtchn_port_t unused) { (void)unused; }
static void upcall(void) { xennet_take_ports(event); }

static void options(int argc, char **argv)
{
    unsigned int handle = 0;
    for (int c; (c = getopt(argc, argv, "v:q:")) != -1; ) switch (c) {
    case 'v': handle = atoi(optarg); break;
    case 'q': most_queues = atoi(optarg) > 1 ? MOST_QUEUES : 1; break;
    default: exit(2);
    }
    snprintf(device_path, sizeof device_path, "device/vif/%u", handle);
    snprintf(error_path, sizeof error_path, "error/device/vif/%u", handle);
}

int main(int argc, char **argv)
{
    char path[256];
    options(argc, argv);
    int rc = xennet_guest_start();
    if (rc) { fprintf(stderr, "check_netfront: no domain: %s\n", strerror(-rc)); return 1; }
    if (!(grant_table = xennet_grant_table(TABLE_FRAMES))) { perror("check_netfront: grant table"); return 1; }
    xennet_set_upcall(upcall);
    xennet_unmask_port(xennet_start_info.store_evtchn);
    store_watch(device_path);
    store_watch("control/shutdown");
    while (!ending || queues) {
        int work = 0;
        look_at_kept();
        while (store_take_event(path, sizeof path)) {
            work = 1;
            if (!strcmp(path, "control/shutdown")) control_changed();
            else backend_changed();
        }
        for (unsigned int i = 0; i < queues; i++) work |= serve(&queue[i]);
        if (!work && (!ending || queues) && !store_has_mail()) HYPERVISOR_sched_op(SCHEDOP_block, NULL);
    }
    sched_shutdown_t end = { .reason = shutdown_reason };
    return HYPERVISOR_sched_op(SCHEDOP_shutdown, &end);
}
