/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A network frontend as a unikernel would have it, in a Linux process: it writes its own grant
 * table, takes its own upcalls, speaks to the store over its own ring page. One vif, one queue,
 * frames in chains of slots (feature-sg), no offloads. From the public headers: xen/io/netif.h,
 * ring.h, xenbus.h, grant_table.h, event_channel.h.
 *
 *   netfront [-v HANDLE] [-r CAPTURE | -g SIZE -c COUNT] [-w CAPTURE] [-e] [-n FRAMES]
 *
 * -r sends the frames of a capture, -g generates them; -e echoes what comes; -w records what comes;
 * -n: when so many have come and everything is sent, close the device and power off. Without -n it
 * runs until the toolstack asks for shutdown, through any number of detaches and attaches. */
#include "xennet-guest.h" /* before Xen's headers: it says which version of the interface is meant */

#include <unistd.h>
#include <xen/io/ring.h>
#include <xen/io/netif.h>
#include <xen/io/xenbus.h>

#include "frames.h"
#include "store_ring.h"

#define PAGE XENNET_PAGE_SIZE
#define SLOTS 256U             /* of either ring */
#define TABLE_FRAMES 2U        /* of the grant table: 512 entries a frame */

static struct source source;
static struct sink sink;
static int echo, backlog;      /* backlog: a frame waits in tx_frame for room in the ring */
static long wanted = -1;       /* frames to receive before closing */
static char device_path[64], backend_path[256], watched_path[256];
static domid_t backend_domid;
static unsigned int most_slots; /* of a packet: 1 without feature-sg */
static unsigned long sent, failed, broken;

/* -- the grant table ---------------------------------------------------------------------------- */

static grant_entry_v1_t *grant_table;
static grant_ref_t free_ref[TABLE_FRAMES * PAGE / sizeof(grant_entry_v1_t)];
static unsigned int free_refs;

static void grants_init(void)
{
    unsigned int entries = TABLE_FRAMES * PAGE / sizeof(grant_entry_v1_t);
    if (!(grant_table = xennet_grant_table(TABLE_FRAMES))) { perror("grant table"); exit(1); }
    while (entries-- > GNTTAB_NR_RESERVED_ENTRIES) free_ref[free_refs++] = entries;
}

/* Introducing a valid entry: the flags come last, and make it valid. */
static void grant_access(grant_ref_t ref, const void *page, int readonly)
{
    grant_entry_v1_t *entry = &grant_table[ref];
    entry->frame = (uint32_t)xennet_virt_to_frame(page);
    entry->domid = backend_domid;
    xen_wmb();
    __atomic_store_n(&entry->flags, GTF_permit_access | (readonly ? GTF_readonly : 0), __ATOMIC_RELEASE);
}

/* Invalidating an entry: only while neither reading nor writing is set. Returns 0 while it is used. */
static int end_access(grant_ref_t ref)
{
    uint16_t flags = __atomic_load_n(&grant_table[ref].flags, __ATOMIC_SEQ_CST);
    do if (flags & (GTF_reading | GTF_writing)) return 0;
    while (!__atomic_compare_exchange_n(&grant_table[ref].flags, &flags, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return 1;
}

/* -- the rings, with a page for each id --------------------------------------------------------- */

struct buffer { grant_ref_t ref; unsigned char *page; int granted; };
static netif_tx_front_ring_t tx;
static netif_rx_front_ring_t rx;
static struct buffer tx_ring, rx_ring, tx_buffer[SLOTS], rx_buffer[SLOTS];
static uint16_t tx_free[SLOTS];
static unsigned int tx_frees;
static evtchn_port_t port;
static int connected;

static void buffer_open(struct buffer *b)
{
    b->page = xennet_alloc_pages(1);
    if (!b->page || !free_refs) { fprintf(stderr, "netfront: no memory\n"); exit(1); }
    b->ref = free_ref[--free_refs];
}

static void buffer_grant(struct buffer *b, int readonly)
{
    grant_access(b->ref, b->page, readonly);
    b->granted = 1;
}

/* A page that the other end still uses must not become anything else: it is kept for good. */
static void buffer_close(struct buffer *b)
{
    if (b->granted && !end_access(b->ref)) {
        fprintf(stderr, "netfront: reference %u is still in use\n", b->ref);
    } else {
        free_ref[free_refs++] = b->ref;
        xennet_free_pages(b->page, 1);
    }
    b->page = NULL;
    b->granted = 0;
}

static void notify_backend(void)
{
    evtchn_send_t send = { .port = port };
    HYPERVISOR_event_channel_op(EVTCHNOP_send, &send);
}

/* -- receiving ---------------------------------------------------------------------------------- */

static unsigned char rx_frame[MOST_FRAME], tx_frame[MOST_FRAME];
static unsigned int rx_length, tx_length;
static int rx_bad, rx_more, rx_extra; /* of the packet that is being received */

/* Give the backend a page to fill. As it answers in order, the request in slot i has id i. */
static void post_buffer(uint16_t id)
{
    netif_rx_request_t *req = RING_GET_REQUEST(&rx, rx.req_prod_pvt);
    buffer_grant(&rx_buffer[id], 0);
    *req = (netif_rx_request_t){ .id = id, .gref = rx_buffer[id].ref };
    rx.req_prod_pvt++;
}

static void packet_received(void)
{
    if (rx_bad || !rx_length) failed++;
    else {
        frames_record(&sink, rx_frame, rx_length);
        if (echo) {
            memcpy(tx_frame, rx_frame, tx_length = rx_length);
            backlog = 1;
        }
    }
    rx_length = 0;
    rx_bad = 0;
}

/* One response: a slot of a packet. Its buffer is ours again as soon as the grant is ended. */
static void take_slot(const netif_rx_response_t *rsp)
{
    struct buffer *b = &rx_buffer[rsp->id % SLOTS];
    if (rsp->id >= SLOTS || !b->granted || !end_access(b->ref)) {
        broken++;
        return;
    }
    b->granted = 0;
    if (rsp->status < 0 || rsp->offset + (unsigned int)rsp->status > PAGE || rx_length + rsp->status > MOST_FRAME
        || rsp->flags & NETRXF_csum_blank) /* we said that we do not want these */
        rx_bad = 1;
    else {
        memcpy(rx_frame + rx_length, b->page + rsp->offset, rsp->status);
        rx_length += rsp->status;
    }
    post_buffer(rsp->id);
}

/* Responses are packets. An echo of one has to be on its way before the next one is taken. */
static int take_responses(void)
{
    int work = 0;
    RING_IDX prod = __atomic_load_n(&rx.sring->rsp_prod, __ATOMIC_ACQUIRE);
    if (RING_RESPONSE_PROD_OVERFLOW(&rx, prod)) { broken++; return 0; }
    while (rx.rsp_cons != prod && !(echo && backlog) && !broken) {
        netif_rx_response_t rsp;
        RING_COPY_RESPONSE(&rx, rx.rsp_cons, &rsp);
        if (rx_extra) { /* a struct netif_extra_info: its buffer was not used, and has the slot's id */
            netif_extra_info_t *info = (netif_extra_info_t *)&rsp;
            rx_extra = info->flags & XEN_NETIF_EXTRA_FLAG_MORE;
            if (info->type == XEN_NETIF_EXTRA_TYPE_GSO) rx_bad = 1; /* not asked for */
            post_buffer(rx.rsp_cons % SLOTS);
        } else {
            take_slot(&rsp);
            rx_extra = rsp.flags & NETRXF_extra_info;
            rx_more = !!(rsp.flags & NETRXF_more_data);
        }
        rx.rsp_cons++;
        work = 1;
        if (!rx_more && !rx_extra) packet_received();
    }
    return work;
}

/* -- sending ------------------------------------------------------------------------------------ */

/* Responses give ids back, one for each slot. */
static int take_answers(void)
{
    int work = 0;
    RING_IDX prod = __atomic_load_n(&tx.sring->rsp_prod, __ATOMIC_ACQUIRE);
    if (RING_RESPONSE_PROD_OVERFLOW(&tx, prod)) { broken++; return 0; }
    for (; tx.rsp_cons != prod; tx.rsp_cons++, work = 1) {
        netif_tx_response_t rsp;
        RING_COPY_RESPONSE(&tx, tx.rsp_cons, &rsp);
        if (rsp.status == NETIF_RSP_NULL) continue; /* of an extra info: we send none */
        if (rsp.id >= SLOTS || !tx_buffer[rsp.id].granted || !end_access(tx_buffer[rsp.id].ref)) {
            broken++;
            return work;
        }
        if (rsp.status != NETIF_RSP_OKAY) failed++;
        tx_buffer[rsp.id].granted = 0;
        tx_free[tx_frees++] = rsp.id;
    }
    return work;
}

/* A packet: the first request has the size of the whole, the others have their own. */
static void put_packet(void)
{
    unsigned int slots = (tx_length + PAGE - 1) / PAGE;
    for (unsigned int i = 0; i < slots; i++) {
        uint16_t id = tx_free[--tx_frees];
        unsigned int part = i < slots - 1 ? PAGE : tx_length - i * PAGE;
        netif_tx_request_t *req = RING_GET_REQUEST(&tx, tx.req_prod_pvt);
        memcpy(tx_buffer[id].page, tx_frame + i * PAGE, part);
        buffer_grant(&tx_buffer[id], 1);
        *req = (netif_tx_request_t){ .gref = tx_buffer[id].ref, .offset = 0, .id = id,
                                     .flags = i < slots - 1 ? NETTXF_more_data : 0,
                                     .size = i ? part : tx_length };
        tx.req_prod_pvt++;
    }
    sent++;
}

static int next_frame(void)
{
    if (!backlog && (source.capture || source.size)) backlog = (tx_length = frames_next(&source, tx_frame)) != 0;
    return backlog;
}

static int send_frames(void)
{
    int work = 0;
    while (next_frame()) {
        unsigned int slots = (tx_length + PAGE - 1) / PAGE;
        if (slots > most_slots) failed++;
        else if (slots > tx_frees) break;
        else put_packet();
        backlog = 0;
        work = 1;
    }
    return work;
}

/* Publish the requests of both rings, with one event at most: a second one that finds nothing is
 * spurious, and Linux answers such ones by looking later and later. */
static void publish_requests(void)
{
    int notify_tx, notify_rx;
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&tx, notify_tx);
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&rx, notify_rx);
    if (notify_tx || notify_rx) notify_backend();
}

/* Before sleep: ask for an event, then look once more. */
static int ring_work(void)
{
    int more_tx, more_rx, work = 0;
    while (take_answers() | take_responses() | send_frames()) work = 1;
    publish_requests();
    if (work) return 1;
    RING_FINAL_CHECK_FOR_RESPONSES(&tx, more_tx);
    RING_FINAL_CHECK_FOR_RESPONSES(&rx, more_rx);
    return more_tx || (more_rx && !(echo && backlog));
}

/* -- connecting --------------------------------------------------------------------------------- */

static void show_state(enum xenbus_state state) { store_write(0, device_path, "state", state); }

static void make_rings(void)
{
    buffer_open(&tx_ring);
    buffer_open(&rx_ring);
    SHARED_RING_INIT((netif_tx_sring_t *)tx_ring.page);
    FRONT_RING_INIT(&tx, (netif_tx_sring_t *)tx_ring.page, PAGE);
    SHARED_RING_INIT((netif_rx_sring_t *)rx_ring.page);
    FRONT_RING_INIT(&rx, (netif_rx_sring_t *)rx_ring.page, PAGE);
    buffer_grant(&tx_ring, 0);
    buffer_grant(&rx_ring, 0);
    for (unsigned int id = 0; id < SLOTS; id++) {
        buffer_open(&tx_buffer[id]);
        buffer_open(&rx_buffer[id]);
        tx_free[id] = SLOTS - 1 - id;
        post_buffer(id);
    }
    tx_frees = SLOTS;
    RING_PUSH_REQUESTS(&rx);
}

static void open_port(void)
{
    evtchn_alloc_unbound_t alloc = { .dom = DOMID_SELF, .remote_dom = backend_domid };
    int rc = HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &alloc);
    if (rc) { fprintf(stderr, "netfront: no port: %s\n", strerror(-rc)); exit(1); }
    port = alloc.port;
    xennet_unmask_port(port);
}

/* All keys in one transaction: the backend sees none of them or all. */
static void publish_keys(void)
{
    for (int tries = 0; tries < STORE_TRIES; tries++) {
        uint32_t t = store_begin();
        store_write(t, device_path, "tx-ring-ref", tx_ring.ref);
        store_write(t, device_path, "rx-ring-ref", rx_ring.ref);
        store_write(t, device_path, "event-channel", port);
        store_write(t, device_path, "request-rx-copy", 1);
        store_write(t, device_path, "feature-rx-notify", 1);
        store_write(t, device_path, "feature-sg", 1);
        store_write(t, device_path, "feature-no-csum-offload", 1);
        if (store_commit(t) != -EAGAIN) return;
    }
    fprintf(stderr, "netfront: the store has no rest\n");
    exit(1);
}

static void connect_backend(void)
{
    if (!store_number(backend_path, "feature-rx-copy", 0)) {
        fprintf(stderr, "netfront: the backend only flips pages\n");
        show_state(XenbusStateClosed);
        return;
    }
    most_slots = store_number(backend_path, "feature-sg", 0) ? XEN_NETIF_NR_SLOTS_MIN : 1;
    backend_domid = (domid_t)store_number(device_path, "backend-id", 0);
    make_rings();
    open_port();
    publish_keys();
    connected = 1;
    show_state(XenbusStateConnected);
}

/* Only when the backend has shown Closed, or is gone: until then it may have our pages mapped. */
static void disconnect_backend(void)
{
    evtchn_close_t close = { .port = port };
    if (!connected) return;
    connected = 0;
    xennet_mask_port(port);
    HYPERVISOR_event_channel_op(EVTCHNOP_close, &close);
    buffer_close(&tx_ring);
    buffer_close(&rx_ring);
    for (unsigned int id = 0; id < SLOTS; id++) {
        buffer_close(&tx_buffer[id]);
        buffer_close(&rx_buffer[id]);
    }
    rx_length = rx_bad = rx_more = rx_extra = backlog = 0;
}

/* -- the life of the device --------------------------------------------------------------------- */

static int closing, shutdown_reason = -1;

/* Follow the toolstack: which backend is ours, if any. Returns whether there is one. */
static int find_backend(void)
{
    if (store_read(0, device_path, "backend", backend_path, sizeof backend_path)) return 0;
    if (!strcmp(backend_path, watched_path)) return 1;
    if (*watched_path) store_unwatch(watched_path);
    snprintf(watched_path, sizeof watched_path, "%s", backend_path);
    store_watch(watched_path);
    return 1;
}

/* The backend's state asks for something; what depends on ours. Returns 0 when we have closed. */
static int backend_changed(void)
{
    int there = find_backend();
    enum xenbus_state theirs = there ? store_number(backend_path, "state", XenbusStateUnknown) : XenbusStateUnknown;
    enum xenbus_state ours = store_number(device_path, "state", XenbusStateUnknown);
    switch (theirs) {
    case XenbusStateInitWait: /* its features are there to read */
        if (ours == XenbusStateInitialising && !closing && !connected) connect_backend();
        else if (closing && ours == XenbusStateClosed) disconnect_backend();
        break;
    case XenbusStateClosing: /* it has, or wants, to stop; it unmaps when we show Closed */
        if (ours != XenbusStateClosed) show_state(XenbusStateClosed);
        break;
    case XenbusStateClosed:
        disconnect_backend();
        if (there && ours != XenbusStateClosed) show_state(XenbusStateClosed);
        break;
    case XenbusStateUnknown: /* there is no backend, or no device any more */
        disconnect_backend();
        break;
    default:
        break;
    }
    return connected || !closing;
}

static void begin_closing(void)
{
    if (closing) return;
    closing = 1;
    if (connected && !broken) show_state(XenbusStateClosing);
    else disconnect_backend();
}

/* The toolstack's wish, which is acknowledged by emptying the node. */
static void control_changed(void)
{
    char value[32];
    if (shutdown_reason >= 0 || store_read(0, "control", "shutdown", value, sizeof value) || !*value) return;
    shutdown_reason = strcmp(value, "reboot") ? SHUTDOWN_poweroff : SHUTDOWN_reboot;
    store_ask(XS_WRITE, 0, 2, (const char *const[]){ "control/shutdown", "" }, (const int[]){ 1, 0 });
    begin_closing();
}

static int finished(void)
{
    return wanted >= 0 && connected && sink.frames >= (unsigned long)wanted && !next_frame() && tx_frees == SLOTS;
}

/* An event means: look at everything. So a port's handler has nothing to do. */
static void event(evtchn_port_t unused) { (void)unused; }
static void upcall(void) { xennet_take_ports(event); }

static void options(int argc, char **argv)
{
    unsigned int handle = 0;
    for (int c; (c = getopt(argc, argv, "v:r:g:c:w:en:")) != -1; ) switch (c) {
    case 'v': handle = atoi(optarg); break;
    case 'r': frames_open_source(&source, optarg); break;
    case 'g': frames_set_size(&source, optarg); break;
    case 'c': source.count = atol(optarg); break;
    case 'w': frames_open_sink(&sink, optarg); break;
    case 'e': echo = 1; break;
    case 'n': wanted = atol(optarg); break;
    default: exit(2);
    }
    snprintf(device_path, sizeof device_path, "device/vif/%u", handle);
}

int main(int argc, char **argv)
{
    char path[256];
    options(argc, argv);
    int rc = xennet_guest_start();
    if (rc) { fprintf(stderr, "netfront: no domain: %s\n", strerror(-rc)); return 1; }
    grants_init();
    xennet_set_upcall(upcall);
    xennet_unmask_port(xennet_start_info.store_evtchn);
    store_watch(device_path);
    store_watch("control/shutdown");
    for (int alive = 1; alive; ) {
        int work = 0;
        while (store_take_event(path, sizeof path)) {
            work = 1;
            if (!strcmp(path, "control/shutdown")) control_changed();
            alive = backend_changed();
        }
        if (connected && !broken) work |= ring_work();
        if (finished() || broken) begin_closing();
        alive = alive && (connected || !closing);
        if (!work && alive && !store_has_mail()) HYPERVISOR_sched_op(SCHEDOP_block, NULL);
    }
    frames_close(&sink);
    printf("netfront: %lu sent, %lu received (%lu bytes), %lu failed%s\n",
           sent, sink.frames, sink.bytes, failed, broken ? ", the backend broke the protocol" : "");
    sched_shutdown_t end = { .reason = broken ? SHUTDOWN_crash : shutdown_reason < 0 ? SHUTDOWN_poweroff : shutdown_reason };
    return HYPERVISOR_sched_op(SCHEDOP_shutdown, &end);
}
