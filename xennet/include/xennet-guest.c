/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See xennet-guest.h. Everything goes through one device file: an ioctl is a hypercall, whose
 * pointers the machine follows itself; mmap shows the frame at that offset; a byte to read means an
 * upcall. */
#define _GNU_SOURCE
#include "xennet-guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DEVICE "/dev/xen/guest"
struct call { uint64_t number, arg[5]; };
#define IOCTL_HYPERCALL _IOC(_IOC_NONE, 'X', 0, sizeof(struct call))
#define IOCTL_START_INFO _IOC(_IOC_NONE, 'X', 1, sizeof(start_info_t))

#define PAGE XENNET_PAGE_SIZE
/* The machine takes this many elements at a time. */
#define BATCH 1024U
/* Pages that a program can have by xennet_alloc_pages(), and frames of its grant table. */
#define WINDOW_PAGES 16384U
#define TABLE_FRAMES 256U

start_info_t xennet_start_info;
shared_info_t *HYPERVISOR_shared_info;
struct xenstore_domain_interface *xennet_store_ring;

static int device = -1;
static void (*upcall_function)(void);

/* -- hypercalls -------------------------------------------------------------------------------- */

static long hypercall(uint64_t number, uint64_t a1, void *a2, uint64_t a3)
{
    struct call call = { number, { a1, (uintptr_t)a2, a3 } };
    int rc = ioctl(device, IOCTL_HYPERCALL, &call);
    return rc < 0 ? -errno : rc;
}

int HYPERVISOR_event_channel_op(int cmd, void *arg)
{
    return (int)hypercall(__HYPERVISOR_event_channel_op, (unsigned int)cmd, arg, 0);
}

long HYPERVISOR_memory_op(unsigned int cmd, void *arg)
{
    return hypercall(__HYPERVISOR_memory_op, cmd, arg, 0);
}

int HYPERVISOR_xen_version(int cmd, void *arg)
{
    return (int)hypercall(__HYPERVISOR_xen_version, (unsigned int)cmd, arg, 0);
}

/* -- grants ------------------------------------------------------------------------------------ */

/* Where this program has mapped a grant, by its handle; NULL: not here. */
static char **mapped_at;
static size_t nr_mapped;

static int remember_mapping(grant_handle_t handle, char *address)
{
    if (handle >= nr_mapped) {
        size_t wanted = handle + BATCH;
        char **more = realloc(mapped_at, wanted * sizeof *more);
        if (!more) return -1;
        memset(more + nr_mapped, 0, (wanted - nr_mapped) * sizeof *more);
        mapped_at = more;
        nr_mapped = wanted;
    }
    mapped_at[handle] = address;
    return 0;
}

static int hide(void *address, size_t size)
{
    void *at = mmap(address, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return at == MAP_FAILED ? -errno : 0;
}

static void show_grant(gnttab_map_grant_ref_t *op)
{
    char *at = (char *)(uintptr_t)(op->host_addr & ~(PAGE - 1));
    int prot = op->flags & GNTMAP_readonly ? PROT_READ : PROT_READ | PROT_WRITE;
    if (op->status != GNTST_okay || !(op->flags & GNTMAP_host_map)) return;
    if (!remember_mapping(op->handle, at)
        && mmap(at, PAGE, prot, MAP_SHARED | MAP_FIXED, device, (off_t)op->dev_bus_addr) == at) return;
    gnttab_unmap_grant_ref_t undo = { .handle = op->handle };
    hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_unmap_grant_ref, &undo, 1);
    if (op->handle < nr_mapped) mapped_at[op->handle] = NULL;
    op->status = GNTST_general_error;
}

/* A page is unmapped where it was mapped; the machine does not know the program's addresses. */
static int unmap_grant(gnttab_unmap_grant_ref_t *op)
{
    char *at = op->handle < nr_mapped ? mapped_at[op->handle] : NULL;
    if (at && op->host_addr && at != (char *)(uintptr_t)(op->host_addr & ~(PAGE - 1))) {
        op->status = GNTST_general_error;
        return 0;
    }
    int rc = (int)hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_unmap_grant_ref, op, 1);
    if (!rc && op->status == GNTST_okay && at) {
        hide(at, PAGE);
        mapped_at[op->handle] = NULL;
    }
    return rc;
}

static size_t size_of_element(unsigned int cmd)
{
    switch (cmd) {
    case GNTTABOP_map_grant_ref: return sizeof(gnttab_map_grant_ref_t);
    case GNTTABOP_unmap_grant_ref: return sizeof(gnttab_unmap_grant_ref_t);
    case GNTTABOP_transfer: return sizeof(gnttab_transfer_t);
    case GNTTABOP_copy: return sizeof(gnttab_copy_t);
    case GNTTABOP_swap_grant_ref: return sizeof(gnttab_swap_grant_ref_t);
    default: return 0;
    }
}

int HYPERVISOR_grant_table_op(unsigned int cmd, void *uop, unsigned int count)
{
    size_t size = size_of_element(cmd);
    char *element = uop;
    int rc = 0;
    if (!size || (int)count <= 0) return (int)hypercall(__HYPERVISOR_grant_table_op, cmd, uop, count);
    while (count && !rc) {
        unsigned int n = count < BATCH ? count : BATCH;
        if (cmd == GNTTABOP_unmap_grant_ref) {
            n = 1;
            rc = unmap_grant((gnttab_unmap_grant_ref_t *)element);
        } else {
            rc = (int)hypercall(__HYPERVISOR_grant_table_op, cmd, element, n);
        }
        if (cmd == GNTTABOP_map_grant_ref && !rc)
            for (unsigned int i = 0; i < n; i++) show_grant((gnttab_map_grant_ref_t *)element + i);
        element += n * size;
        count -= n;
    }
    return rc;
}

grant_entry_v1_t *xennet_grant_table(unsigned int nr_frames)
{
    static grant_entry_v1_t *table;
    xen_pfn_t frames[TABLE_FRAMES];
    gnttab_setup_table_t setup = { .dom = DOMID_SELF, .nr_frames = nr_frames };
    set_xen_guest_handle(setup.frame_list, frames);
    if (!nr_frames || nr_frames > TABLE_FRAMES) { errno = EINVAL; return NULL; }
    int rc = HYPERVISOR_grant_table_op(GNTTABOP_setup_table, &setup, 1);
    if (rc || setup.status != GNTST_okay) { errno = rc ? -rc : ENOSPC; return NULL; }
    if (!table) {
        void *at = mmap(NULL, TABLE_FRAMES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) return NULL;
        table = at;
    }
    for (unsigned int i = 0; i < nr_frames; i++)
        if (mmap((char *)table + i * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, device,
                 (off_t)(frames[i] * PAGE)) == MAP_FAILED) return NULL;
    return table;
}

/* -- memory ------------------------------------------------------------------------------------ */

/* All memory of the machine lies in one window, so that a frame is found by its address. */
static char *window;
static xen_pfn_t frame_of[WINDOW_PAGES];
static unsigned int next_free;

static int open_window(void)
{
    void *at = mmap(NULL, WINDOW_PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return -errno;
    memset(frame_of, 0xff, sizeof frame_of);
    window = at;
    return 0;
}

/* Show frames at address, each stretch of consecutive ones at once. */
static int show_frames(char *address, const xen_pfn_t *frames, unsigned int nr_frames)
{
    for (unsigned int i = 0, n; i < nr_frames; i += n) {
        for (n = 1; i + n < nr_frames && frames[i + n] == frames[i] + n; n++) ;
        if (mmap(address + i * PAGE, n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, device,
                 (off_t)(frames[i] * PAGE)) == MAP_FAILED) return -errno;
    }
    return 0;
}

void *xennet_map_frames(const xen_pfn_t *frames, unsigned int nr_frames)
{
    char *at = mmap(NULL, nr_frames * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return NULL;
    int rc = show_frames(at, frames, nr_frames);
    if (!rc) return at;
    munmap(at, nr_frames * PAGE);
    errno = -rc;
    return NULL;
}

int xennet_unmap_frames(void *address, unsigned int nr_frames)
{
    return munmap(address, nr_frames * PAGE) ? -errno : 0;
}

/* The first page of a stretch of the window that is free; WINDOW_PAGES if there is none. */
static unsigned int find_free(unsigned int nr_pages)
{
    for (unsigned int turn = 0; turn < 2; turn++, next_free = 0)
        for (unsigned int at = next_free, n = 0; at < WINDOW_PAGES; at++) {
            n = frame_of[at] == XENNET_NO_FRAME ? n + 1 : 0;
            if (n == nr_pages) return at + 1 - n;
        }
    return WINDOW_PAGES;
}

static void give_back(xen_pfn_t *frames, unsigned int nr_frames)
{
    for (unsigned int i = 0; i < nr_frames; i += BATCH) {
        struct xen_memory_reservation r = { .domid = DOMID_SELF };
        r.nr_extents = nr_frames - i < BATCH ? nr_frames - i : BATCH;
        set_xen_guest_handle(r.extent_start, frames + i);
        HYPERVISOR_memory_op(XENMEM_decrease_reservation, &r);
    }
    memset(frames, 0xff, nr_frames * sizeof *frames);
}

void *xennet_alloc_pages(unsigned int nr_pages)
{
    unsigned int first = nr_pages ? find_free(nr_pages) : WINDOW_PAGES, got = 0;
    if (first == WINDOW_PAGES) return NULL;
    while (got < nr_pages) {
        struct xen_memory_reservation r = { .domid = DOMID_SELF };
        r.nr_extents = nr_pages - got < BATCH ? nr_pages - got : BATCH;
        set_xen_guest_handle(r.extent_start, frame_of + first + got);
        long done = HYPERVISOR_memory_op(XENMEM_increase_reservation, &r);
        if (done > 0) got += (unsigned int)done;
        if (done < (long)r.nr_extents) break;
    }
    if (got < nr_pages || show_frames(window + first * PAGE, frame_of + first, nr_pages)) {
        hide(window + first * PAGE, nr_pages * PAGE);
        give_back(frame_of + first, got);
        return NULL;
    }
    next_free = first + nr_pages;
    return window + first * PAGE;
}

void xennet_free_pages(void *pages, unsigned int nr_pages)
{
    unsigned int first = (unsigned int)(((char *)pages - window) / PAGE);
    hide(pages, nr_pages * PAGE);
    give_back(frame_of + first, nr_pages);
}

xen_pfn_t xennet_virt_to_frame(const void *address)
{
    uintptr_t offset = (uintptr_t)address - (uintptr_t)window;
    return offset < WINDOW_PAGES * PAGE ? frame_of[offset / PAGE] : XENNET_NO_FRAME;
}

/* -- upcalls ----------------------------------------------------------------------------------- */

static vcpu_info_t *vcpu(void) { return (vcpu_info_t *)&HYPERVISOR_shared_info->vcpu_info[0]; }

static int upcall_due(void)
{
    return __atomic_load_n(&vcpu()->evtchn_upcall_pending, __ATOMIC_SEQ_CST) && !vcpu()->evtchn_upcall_mask;
}

/* The machine has closed the device file: the domain was destroyed or shut down, or the machine is
 * gone. A kernel does not see that. */
static void vanish(void)
{
    static const char text[] = "xennet-guest: the domain does not run any more\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) { /* nobody to tell */ }
    _exit(SHUTDOWN_crash);
}

/* Wait for a byte until the deadline (ns; 0: none). Returns 0 when that has passed. */
static int wait_for_upcall(uint64_t deadline)
{
    struct pollfd f = { .fd = device, .events = POLLIN };
    for (;;) {
        int64_t left = deadline ? (int64_t)(deadline - xennet_system_time()) : 0;
        if (deadline && left <= 0) return 0;
        struct timespec t = { left / 1000000000, left % 1000000000 };
        int n = ppoll(&f, 1, deadline ? &t : NULL, NULL);
        if (n > 0) return 1;
        if (n < 0 && errno != EINTR) return 1;
    }
}

/* Read the bytes that are there: what they announce is looked at next. */
static void drain(void)
{
    char bytes[256];
    ssize_t n;
    while ((n = recv(device, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) ;
    if (!n || (errno != EAGAIN && errno != EINTR)) vanish();
}

void xennet_set_upcall(void (*upcall)(void)) { upcall_function = upcall; }
int xennet_upcall_fd(void) { return device; }

int xennet_deliver(void)
{
    int calls = 0;
    drain();
    while (upcall_function && upcall_due()) {
        vcpu()->evtchn_upcall_mask = 1;
        upcall_function();
        vcpu()->evtchn_upcall_mask = 0;
        calls++;
    }
    return calls;
}

void xennet_take_ports(void (*handler)(evtchn_port_t port))
{
    shared_info_t *s = HYPERVISOR_shared_info;
    const unsigned int bits = 8 * sizeof(xen_ulong_t);
    /* The flag, then the selector, then the words: Xen sets them the other way round. */
    __atomic_store_n(&vcpu()->evtchn_upcall_pending, 0, __ATOMIC_SEQ_CST);
    xen_ulong_t words = __atomic_exchange_n(&vcpu()->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
    while (words) {
        unsigned int word = (unsigned int)__builtin_ctzl(words);
        words &= words - 1;
        xen_ulong_t ports;
        while ((ports = __atomic_load_n(&s->evtchn_pending[word], __ATOMIC_SEQ_CST)
                        & ~__atomic_load_n(&s->evtchn_mask[word], __ATOMIC_SEQ_CST))) {
            evtchn_port_t port = word * bits + (unsigned int)__builtin_ctzl(ports);
            xennet_clear_port(port);
            handler(port);
        }
    }
}

static xen_ulong_t bit_of(evtchn_port_t port) { return (xen_ulong_t)1 << port % (8 * sizeof(xen_ulong_t)); }

void xennet_mask_port(evtchn_port_t port)
{
    __atomic_fetch_or(&HYPERVISOR_shared_info->evtchn_mask[port / (8 * sizeof(xen_ulong_t))], bit_of(port), __ATOMIC_SEQ_CST);
}

void xennet_clear_port(evtchn_port_t port)
{
    __atomic_fetch_and(&HYPERVISOR_shared_info->evtchn_pending[port / (8 * sizeof(xen_ulong_t))], ~bit_of(port), __ATOMIC_SEQ_CST);
}

int xennet_unmask_port(evtchn_port_t port)
{
    evtchn_unmask_t op = { .port = port };
    return HYPERVISOR_event_channel_op(EVTCHNOP_unmask, &op);
}

uint64_t xennet_system_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int poll_ports(sched_poll_t *poll)
{
    long rc;
    /* 0: the machine makes an upcall when one of the ports has an event, also if it is masked. */
    while (!(rc = hypercall(__HYPERVISOR_sched_op, SCHEDOP_poll, poll, 0)) && !upcall_due())
        if (!wait_for_upcall(poll->timeout)) break;
        else drain();
    xennet_deliver();
    return rc < 0 ? (int)rc : 0;
}

int HYPERVISOR_sched_op(int cmd, void *arg)
{
    if (cmd == SCHEDOP_poll) return poll_ports(arg);
    long rc = hypercall(__HYPERVISOR_sched_op, (unsigned int)cmd, arg, 0);
    if (rc) return (int)rc;
    if (cmd == SCHEDOP_shutdown) exit((int)((sched_shutdown_t *)arg)->reason);
    if (cmd == SCHEDOP_yield) sched_yield();
    if (cmd == SCHEDOP_block) {
        vcpu()->evtchn_upcall_mask = 0;
        while (!upcall_due()) {
            wait_for_upcall(0);
            drain();
        }
    }
    xennet_deliver();
    return 0;
}

/* -- start ------------------------------------------------------------------------------------- */

/* An earlier user may have left anything in the ring: the machine has asked xenstored to begin anew
 * (docs/misc/xenstore-ring.txt of Xen), if that can. */
static void await_store(void)
{
    evtchn_port_t port = xennet_start_info.store_evtchn;
    sched_poll_t poll = { .nr_ports = 1 };
    set_xen_guest_handle(poll.ports, &port);
    if (!(xennet_store_ring->server_features & XENSTORE_SERVER_FEATURE_RECONNECTION)) return;
    while (__atomic_load_n(&xennet_store_ring->connection, __ATOMIC_ACQUIRE) != XENSTORE_CONNECTED) {
        poll_ports(&poll);
        xennet_clear_port(port);
    }
}

int xennet_guest_start(void)
{
    if (device >= 0) return -EBUSY;
    int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
    if (fd < 0) return -errno;
    device = fd;
    if (ioctl(device, IOCTL_START_INFO, &xennet_start_info) < 0) goto failed;
    xen_pfn_t shared_info = xennet_start_info.shared_info / PAGE, store = xennet_start_info.store_mfn;
    HYPERVISOR_shared_info = xennet_map_frames(&shared_info, 1);
    xennet_store_ring = xennet_map_frames(&store, 1);
    if (!HYPERVISOR_shared_info || !xennet_store_ring || open_window()) goto failed;
    await_store();
    return 0;
failed:
    fd = -errno;
    close(device);
    device = -1;
    return fd;
}
