/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A network backend as a program of domain 0, or of a driver domain: on libxengnttab, libxenevtchn
 * and libxenstore, as it would run on a Linux that runs on Xen. One vif, one queue, guest's frames
 * in chains of slots (feature-sg), blank checksums of IPv4 completed, no GSO. From the public
 * headers: xen/io/netif.h, ring.h, xenbus.h.
 *
 *   netback [-d DOMID] [-v HANDLE] [-r CAPTURE | -g SIZE -c COUNT] [-w CAPTURE] [-e] [-n FRAMES]
 *
 * Serves vif HANDLE of domain DOMID. -r sends the frames of a capture to the guest, -g generates
 * them; -e echoes what the guest sends; -w records it. It ends when the toolstack has taken the vif
 * away; with -n, when that many frames have come and everything is sent, with the vif closed. */
#define __XEN_INTERFACE_VERSION__ 0x00040d00

#include <errno.h>
#include <poll.h>
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

#include "checksum.h"
#include "frames.h"

#define PAGE 4096U
#define SLOTS 256U
#define MOST_SLOTS XEN_NETIF_NR_SLOTS_MIN /* of a packet */
#define SMALLEST_FRAME 14U

static struct source source;
static struct sink sink;
static int echo, backlog;  /* backlog: a frame waits in rx_frame for buffers of the guest */
static long wanted = -1;
static unsigned int frontend_domid = 1;
static char own_path[128], frontend_path[128];
static unsigned long given, failed;

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

static long read_number(const char *directory, const char *name, long otherwise)
{
    char *value = read_node(directory, name), *end;
    long number = value ? strtol(value, &end, 10) : otherwise;
    if (value && (end == value || *end)) number = otherwise;
    free(value);
    return number;
}

static void write_number(const char *name, unsigned int number)
{
    char path[256], value[16];
    snprintf(path, sizeof path, "%s/%s", own_path, name);
    snprintf(value, sizeof value, "%u", number);
    xs_write(store, XBT_NULL, path, value, strlen(value));
}

static enum xenbus_state shown = XenbusStateUnknown;

/* Only while the directory is there: a backend must not make it again. */
static void show_state(enum xenbus_state state)
{
    if (read_number(own_path, "state", -1) < 0 || state == shown) return;
    write_number("state", state);
    shown = state;
}

/* -- the guest's frames: requests of the tx ring ------------------------------------------------- */

static netif_tx_back_ring_t tx;
static netif_rx_back_ring_t rx;
static xenevtchn_port_or_error_t port = -1;
static int connected, broken, guest_sg;
static unsigned char *tx_page, *rx_frame; /* payload, copied out of, and into, the guest's pages */
static unsigned int rx_length;

static void break_off(const char *why)
{
    fprintf(stderr, "netback: the frontend broke the protocol: %s\n", why);
    broken = 1;
}

static void answer(uint16_t id, int16_t status)
{
    *RING_GET_RESPONSE(&tx, tx.rsp_prod_pvt) = (netif_tx_response_t){ .id = id, .status = status };
    tx.rsp_prod_pvt++;
}

/* Extra infos follow the first request, each in a slot of its own. What we did not offer makes the
 * packet wrong, not the ring. Returns the number of slots, -1 after breaking off. */
static int take_extras(RING_IDX at, RING_IDX prod, int *wrong)
{
    netif_tx_request_t slot;
    netif_extra_info_t info;
    int n = 0;
    do {
        if (at + n == prod) { break_off("extra infos that are not all there"); return -1; }
        RING_COPY_REQUEST(&tx, at + n, &slot);
        memcpy(&info, &slot, sizeof info);
        if (info.type == XEN_NETIF_EXTRA_TYPE_GSO || !info.type || info.type >= XEN_NETIF_EXTRA_TYPE_MAX) *wrong = 1;
        n++;
    } while (info.flags & XEN_NETIF_EXTRA_FLAG_MORE);
    return n;
}

/* The slots of a packet, each loaded once: its first request has the size of the whole packet, the
 * others have their own. A frontend publishes whole packets. Returns their number, 0 if there is no
 * packet or after breaking off. */
static unsigned int take_slots(netif_tx_request_t *slot, RING_IDX prod, int *extras, int *wrong)
{
    unsigned int n = 0, rest;
    RING_IDX at = tx.req_cons;
    *extras = *wrong = 0;
    if (at == prod) return 0;
    do {
        if (at == prod) { break_off("a packet that is not all there"); return 0; }
        if (n == MOST_SLOTS) { break_off("a packet of too many slots"); return 0; }
        RING_COPY_REQUEST(&tx, at, &slot[n]);
        at++;
        if (!n && slot[0].flags & NETTXF_extra_info) {
            if ((*extras = take_extras(at, prod, wrong)) < 0) return 0;
            at += *extras;
        }
    } while (slot[n++].flags & NETTXF_more_data);
    rest = slot[0].size;
    for (unsigned int i = 1; i < n; i++) {
        if (slot[i].size > rest) { break_off("slots larger than their packet"); return 0; }
        rest -= slot[i].size;
    }
    for (unsigned int i = 0; i < n; i++)
        if (slot[i].offset + (i ? slot[i].size : rest) > PAGE) { break_off("a slot that leaves its page"); return 0; }
    if (slot[0].size < SMALLEST_FRAME) *wrong = 1;
    return n;
}

/* Copy a packet out of the guest's pages, in one hypercall. Returns 0 if a grant was refused. */
static int copy_in(const netif_tx_request_t *slot, unsigned int n)
{
    xengnttab_grant_copy_segment_t segment[MOST_SLOTS];
    unsigned int others = 0, at = 0;
    for (unsigned int i = 1; i < n; i++) others += slot[i].size;
    for (unsigned int i = 0; i < n; i++) {
        unsigned int size = i ? slot[i].size : slot[0].size - others;
        segment[i] = (xengnttab_grant_copy_segment_t){ .len = size, .flags = GNTCOPY_source_gref, .status = GNTST_general_error };
        segment[i].source.foreign.ref = slot[i].gref;
        segment[i].source.foreign.offset = slot[i].offset;
        segment[i].source.foreign.domid = frontend_domid;
        segment[i].dest.virt = tx_page + at;
        at += size;
    }
    if (xengnttab_grant_copy(gnttab, n, segment)) return 0;
    for (unsigned int i = 0; i < n; i++)
        if (segment[i].status != GNTST_okay) return 0;
    return 1;
}

static void frame_from_guest(unsigned int length, int blank)
{
    if (blank && !complete_checksum(tx_page, length)) { failed++; return; }
    frames_record(&sink, tx_page, length);
    if (echo) {
        memcpy(rx_frame, tx_page, rx_length = length);
        backlog = 1;
    }
}

static int take_packets(void)
{
    int work = 0, extras, wrong;
    netif_tx_request_t slot[MOST_SLOTS];
    RING_IDX prod = __atomic_load_n(&tx.sring->req_prod, __ATOMIC_ACQUIRE);
    if (RING_REQUEST_PROD_OVERFLOW(&tx, prod)) { break_off("more requests than slots"); return 0; }
    while (!(echo && backlog) && !broken) { /* an echo has to be on its way before */
        unsigned int n = take_slots(slot, prod, &extras, &wrong);
        if (!n) break;
        tx.req_cons += n + extras;
        int good = !wrong && copy_in(slot, n);
        for (unsigned int i = 0; i < n; i++) {
            answer(slot[i].id, good ? NETIF_RSP_OKAY : NETIF_RSP_ERROR);
            for (int e = 0; !i && e < extras; e++) answer(0, NETIF_RSP_NULL);
        }
        if (good) frame_from_guest(slot[0].size, slot[0].flags & NETTXF_csum_blank);
        else failed++;
        work = 1;
    }
    return work;
}

/* -- frames for the guest: requests of the rx ring are its buffers -------------------------------- */

static unsigned int slots_of(unsigned int length) { return (length + PAGE - 1) / PAGE; }

/* Copy the frame into n buffers and answer their requests. */
static void fill_buffers(unsigned int n)
{
    xengnttab_grant_copy_segment_t segment[MOST_SLOTS];
    netif_rx_request_t req[MOST_SLOTS];
    for (unsigned int i = 0; i < n; i++) {
        unsigned int size = i < n - 1 ? PAGE : rx_length - i * PAGE;
        RING_COPY_REQUEST(&rx, rx.req_cons, &req[i]);
        rx.req_cons++;
        segment[i] = (xengnttab_grant_copy_segment_t){ .len = size, .flags = GNTCOPY_dest_gref, .status = GNTST_general_error };
        segment[i].source.virt = rx_frame + i * PAGE;
        segment[i].dest.foreign.ref = req[i].gref;
        segment[i].dest.foreign.offset = 0;
        segment[i].dest.foreign.domid = frontend_domid;
    }
    int refused = xengnttab_grant_copy(gnttab, n, segment) != 0;
    for (unsigned int i = 0; i < n; i++) {
        int good = !refused && segment[i].status == GNTST_okay;
        *RING_GET_RESPONSE(&rx, rx.rsp_prod_pvt) = (netif_rx_response_t){
            .id = req[i].id, .offset = 0, .flags = i < n - 1 ? NETRXF_more_data : 0,
            .status = good ? (int16_t)segment[i].len : NETIF_RSP_ERROR };
        rx.rsp_prod_pvt++;
        refused |= !good;
    }
    if (refused) failed++;
    else given++;
}

static int next_frame(void)
{
    if (!backlog && (source.capture || source.size)) backlog = (rx_length = frames_next(&source, rx_frame)) != 0;
    return backlog;
}

static int give_packets(void)
{
    int work = 0;
    while (next_frame() && !broken) {
        unsigned int n = slots_of(rx_length);
        RING_IDX prod = __atomic_load_n(&rx.sring->req_prod, __ATOMIC_ACQUIRE);
        if (RING_REQUEST_PROD_OVERFLOW(&rx, prod)) { break_off("more buffers than slots"); break; }
        if (n > (guest_sg ? MOST_SLOTS : 1)) failed++;
        else if (prod - rx.req_cons < n) break;
        else fill_buffers(n);
        backlog = 0;
        work = 1;
    }
    return work;
}

/* Publish the responses of both rings, with one event at most: a second one that finds nothing is
 * spurious, and Linux answers such ones by looking later and later. */
static void publish_responses(void)
{
    int notify_tx, notify_rx;
    RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&tx, notify_tx);
    RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&rx, notify_rx);
    if (notify_tx || notify_rx) xenevtchn_notify(evtchn, port);
}

/* Ask for an event and look once more: for a request, and for enough buffers. */
static int ring_work(void)
{
    int more, work = 0;
    while (take_packets() | give_packets()) work = 1;
    publish_responses();
    if (work) return 1;
    rx.sring->req_event = rx.req_cons + (backlog ? slots_of(rx_length) : 1);
    xen_mb();
    if (backlog && rx.sring->req_prod - rx.req_cons >= slots_of(rx_length)) return 1;
    RING_FINAL_CHECK_FOR_REQUESTS(&tx, more);
    return more && !(echo && backlog) && !broken;
}

/* -- connecting --------------------------------------------------------------------------------- */

static void disconnect(void)
{
    if (tx.sring) xengnttab_unmap(gnttab, tx.sring, 1);
    if (rx.sring) xengnttab_unmap(gnttab, rx.sring, 1);
    if (port >= 0) xenevtchn_unbind(evtchn, port);
    tx.sring = NULL;
    rx.sring = NULL;
    port = -1;
    connected = broken = 0;
}

static void *map_ring(const char *key)
{
    long ref = read_number(frontend_path, key, -1);
    return ref < 0 ? NULL : xengnttab_map_grant_ref(gnttab, frontend_domid, ref, PROT_READ | PROT_WRITE);
}

static int connect_frontend(void)
{
    if (!read_number(frontend_path, "request-rx-copy", 0)) return 0;
    guest_sg = read_number(frontend_path, "feature-sg", 0);
    tx.sring = map_ring("tx-ring-ref");
    rx.sring = map_ring("rx-ring-ref");
    port = xenevtchn_bind_interdomain(evtchn, frontend_domid, read_number(frontend_path, "event-channel", 0));
    if (!tx.sring || !rx.sring || port < 0) return 0;
    BACK_RING_ATTACH(&tx, tx.sring, tx.sring->rsp_prod, PAGE);
    BACK_RING_ATTACH(&rx, rx.sring, rx.sring->rsp_prod, PAGE);
    return connected = 1;
}

/* -- the life of the device --------------------------------------------------------------------- */

static int closing;

static void publish_features(void)
{
    write_number("feature-rx-copy", 1);
    write_number("feature-rx-flip", 0);
    write_number("feature-sg", 1);
    write_number("feature-gso-tcpv4", 0);
    write_number("feature-ipv6-csum-offload", 0);
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

/* What the frontend's state asks for. Returns 0 when the device is gone for good. */
static int frontend_changed(void)
{
    enum xenbus_state theirs = read_number(frontend_path, "state", XenbusStateUnknown);
    if (read_number(own_path, "state", -1) < 0) { disconnect(); return 0; }
    switch (theirs) {
    case XenbusStateInitialising: /* a new start; what we offer is there before InitWait says so */
        if (shown != XenbusStateUnknown && shown != XenbusStateClosed) break;
        publish_features();
        show_state(XenbusStateInitWait);
        break;
    case XenbusStateConnected:
        if (shown != XenbusStateInitWait || !plugged_in() || closing) break;
        if (connect_frontend()) show_state(XenbusStateConnected);
        else { disconnect(); show_state(XenbusStateClosing); }
        break;
    case XenbusStateClosing:
        if (shown != XenbusStateClosed) show_state(XenbusStateClosing);
        break;
    case XenbusStateClosed:
    case XenbusStateUnknown: /* its domain is gone */
        disconnect();
        show_state(XenbusStateClosed);
        return read_number(own_path, "online", 0) && !closing;
    default:
        break;
    }
    return 1;
}

static int finished(void) { return wanted >= 0 && connected && sink.frames >= (unsigned long)wanted && !next_frame(); }

static void wait_for_events(void)
{
    struct pollfd f[] = { { .fd = xs_fileno(store), .events = POLLIN }, { .fd = xenevtchn_fd(evtchn), .events = POLLIN } };
    if (poll(f, 2, -1) < 0 && errno != EINTR) exit(1);
    if (f[1].revents) xenevtchn_unmask(evtchn, xenevtchn_pending(evtchn));
}

static void options(int argc, char **argv)
{
    unsigned int handle = 0;
    for (int c; (c = getopt(argc, argv, "d:v:r:g:c:w:en:")) != -1; ) switch (c) {
    case 'd': frontend_domid = atoi(optarg); break;
    case 'v': handle = atoi(optarg); break;
    case 'r': frames_open_source(&source, optarg); break;
    case 'g': frames_set_size(&source, optarg); break;
    case 'c': source.count = atol(optarg); break;
    case 'w': frames_open_sink(&sink, optarg); break;
    case 'e': echo = 1; break;
    case 'n': wanted = atol(optarg); break;
    default: exit(2);
    }
    unsigned int length;
    char *domid = xs_read(store, XBT_NULL, "domid", &length);
    snprintf(own_path, sizeof own_path, "/local/domain/%s/backend/vif/%u/%u", domid ? domid : "0", frontend_domid, handle);
    free(domid);
    snprintf(frontend_path, sizeof frontend_path, "/local/domain/%u/device/vif/%u", frontend_domid, handle);
}

int main(int argc, char **argv)
{
    store = xs_open(0);
    gnttab = xengnttab_open(NULL, 0);
    evtchn = xenevtchn_open(NULL, 0);
    if (!store || !gnttab || !evtchn) { perror("netback: no Xen"); return 1; }
    options(argc, argv);
    tx_page = aligned_alloc(PAGE, MOST_SLOTS * PAGE);
    rx_frame = aligned_alloc(PAGE, MOST_SLOTS * PAGE);
    memset(tx_page, 0, MOST_SLOTS * PAGE);
    memset(rx_frame, 0, MOST_SLOTS * PAGE);
    xs_watch(store, own_path, "own");
    xs_watch(store, frontend_path, "frontend");
    for (int alive = 1, seen = 0; alive; ) {
        int work = 0;
        for (char **event; (event = xs_check_watch(store)); work = 1) {
            free(event);
            seen |= read_number(own_path, "state", -1) >= 0;
            if (seen) alive = frontend_changed();
        }
        if (connected && !broken) work |= ring_work();
        if ((finished() || (connected && broken)) && !closing) {
            closing = 1;
            show_state(XenbusStateClosing);
        }
        if (!work && alive) wait_for_events();
    }
    frames_close(&sink);
    printf("netback: %lu received (%lu bytes), %lu given, %lu failed\n", sink.frames, sink.bytes, given, failed);
    return 0;
}
