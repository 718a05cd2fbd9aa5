/* What xennet-guest.h promises, asked by a kernel that talks to itself. Prints "ok", or the line of
 * the first thing that is not so. */
#include "xennet-guest.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(so) do if (!(so)) { printf("line %d: %s (errno %d)\n", __LINE__, #so, errno); fflush(stdout); _exit(1); } while (0)
#define PAGE XENNET_PAGE_SIZE

static grant_entry_v1_t *table;
static evtchn_port_t taken[8];
static int nr_taken, nr_upcalls;

static void handler(evtchn_port_t port) { taken[nr_taken++ % 8] = port; }
static void upcall(void) { nr_upcalls++; xennet_take_ports(handler); }

static void memory(void)
{
    char *a = xennet_alloc_pages(3), *b = xennet_alloc_pages(1500);
    CHECK(a && b);
    for (unsigned int i = 0; i < 1500; i++) {
        CHECK(xennet_virt_to_frame(b + i * PAGE + 77) != XENNET_NO_FRAME);
        CHECK(!*(volatile uint64_t *)(b + i * PAGE));
        *(uint64_t *)(b + i * PAGE) = i;
    }
    /* The same frame, seen elsewhere. */
    xen_pfn_t frame = xennet_virt_to_frame(b + 1234 * PAGE);
    uint64_t *again = xennet_map_frames(&frame, 1);
    CHECK(again && *again == 1234);
    CHECK(!xennet_unmap_frames(again, 1));
    struct xen_memory_domain me = { .domid = DOMID_SELF };
    CHECK(HYPERVISOR_memory_op(XENMEM_current_reservation, &me) == 1503);
    xennet_free_pages(b, 1500);
    CHECK(xennet_virt_to_frame(b) == XENNET_NO_FRAME);
    CHECK(HYPERVISOR_memory_op(XENMEM_current_reservation, &me) == 3);
    CHECK(!xennet_alloc_pages(0) && !xennet_alloc_pages(1 << 20));
    CHECK(xennet_virt_to_frame(&frame) == XENNET_NO_FRAME);
    frame = 1; /* the hypervisor's, or domain 0's */
    CHECK(!xennet_map_frames(&frame, 1) && errno == EACCES);
    frame = 1 << 30;
    CHECK(!xennet_map_frames(&frame, 1) && errno == EACCES);
    xennet_free_pages(a, 3);
}

static void grants(domid_t self)
{
    char *page = xennet_alloc_pages(1), *other = xennet_alloc_pages(2);
    char *at = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK((table = xennet_grant_table(1)) && xennet_grant_table(2) == table);
    CHECK(!xennet_grant_table(0) && !xennet_grant_table(1000));
    table[600].flags = 0; /* the second frame is there */
    table[8].domid = self;
    table[8].frame = (uint32_t)xennet_virt_to_frame(page);
    xen_wmb();
    table[8].flags = GTF_permit_access;
    gnttab_map_grant_ref_t map[2] = {
        { .host_addr = (uintptr_t)at, .flags = GNTMAP_host_map, .ref = 8, .dom = self },
        { .host_addr = (uintptr_t)at + PAGE, .flags = GNTMAP_host_map | GNTMAP_readonly, .ref = 8, .dom = self } };
    CHECK(!HYPERVISOR_grant_table_op(GNTTABOP_map_grant_ref, map, 2));
    CHECK(map[0].status == GNTST_okay && map[1].status == GNTST_okay);
    strcpy(at, "seen through a grant");
    CHECK(!strcmp(page, "seen through a grant") && !strcmp(at + PAGE, page));
    CHECK(table[8].flags & GTF_writing);
    gnttab_unmap_grant_ref_t unmap = { .host_addr = (uintptr_t)at + PAGE, .handle = map[0].handle };
    CHECK(!HYPERVISOR_grant_table_op(GNTTABOP_unmap_grant_ref, &unmap, 1) && unmap.status == GNTST_general_error);
    CHECK(*at == 's');
    for (int i = 0; i < 2; i++) {
        unmap = (gnttab_unmap_grant_ref_t){ .host_addr = map[i].host_addr, .handle = map[i].handle };
        CHECK(!HYPERVISOR_grant_table_op(GNTTABOP_unmap_grant_ref, &unmap, 1) && unmap.status == GNTST_okay);
        CHECK(!HYPERVISOR_grant_table_op(GNTTABOP_unmap_grant_ref, &unmap, 1) && unmap.status == GNTST_bad_handle);
    }
    CHECK(table[8].flags == GTF_permit_access);
    pid_t child = fork(); /* what was unmapped cannot be read */
    if (!child) { signal(SIGSEGV, SIG_DFL); _exit(*(volatile char *)at == 's'); }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    /* More copies than one call of the machine's takes. */
    static gnttab_copy_t copy[2000];
    for (int i = 0; i < 2000; i++) {
        copy[i] = (gnttab_copy_t){ .len = 2, .flags = GNTCOPY_source_gref };
        copy[i].source.u.ref = i == 1999 ? 9 : 8;
        copy[i].source.domid = self;
        copy[i].source.offset = (uint16_t)i;
        copy[i].dest.u.gmfn = xennet_virt_to_frame(other);
        copy[i].dest.domid = DOMID_SELF;
        copy[i].dest.offset = (uint16_t)i;
    }
    for (int i = 0; i < 2000; i++) page[i] = (char)(i * 7);
    CHECK(!HYPERVISOR_grant_table_op(GNTTABOP_copy, copy, 2000));
    CHECK(copy[1998].status == GNTST_okay && copy[1999].status == GNTST_general_error && !memcmp(page, other, 2000));
    CHECK(HYPERVISOR_grant_table_op(GNTTABOP_copy, (void *)8, 1) == -EFAULT);
    CHECK(HYPERVISOR_grant_table_op(GNTTABOP_copy, copy, (unsigned int)-1) == -EINVAL);
    CHECK(HYPERVISOR_grant_table_op(99, copy, 1) == -ENOSYS);
    table[8].flags = 0;
    xennet_free_pages(page, 1);
    xennet_free_pages(other, 2);
}

static int readable(void)
{
    struct pollfd f = { .fd = xennet_upcall_fd(), .events = POLLIN };
    return poll(&f, 1, 0);
}

static void send_event(evtchn_port_t port)
{
    evtchn_send_t send = { .port = port };
    CHECK(!HYPERVISOR_event_channel_op(EVTCHNOP_send, &send));
}

static void events(domid_t self)
{
    evtchn_alloc_unbound_t alloc = { .dom = DOMID_SELF, .remote_dom = self };
    CHECK(!HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &alloc));
    evtchn_bind_interdomain_t bind = { .remote_dom = self, .remote_port = alloc.port };
    CHECK(!HYPERVISOR_event_channel_op(EVTCHNOP_bind_interdomain, &bind));
    evtchn_port_t near = alloc.port, far = bind.local_port;
    xennet_clear_port(far); /* a new binding is pending */
    /* A masked port makes no upcall, but ends a poll for it. */
    send_event(near);
    CHECK(!xennet_deliver() && !nr_taken);
    sched_poll_t poll = { .nr_ports = 1 };
    set_xen_guest_handle(poll.ports, &far);
    CHECK(!HYPERVISOR_sched_op(SCHEDOP_poll, &poll) && !nr_taken);
    xennet_clear_port(far);
    uint64_t before = xennet_system_time();
    poll.timeout = before + 20000000;
    CHECK(!HYPERVISOR_sched_op(SCHEDOP_poll, &poll) && xennet_system_time() >= poll.timeout);
    poll.nr_ports = 129;
    CHECK(HYPERVISOR_sched_op(SCHEDOP_poll, &poll) == -EINVAL);
    /* An upcall for what waited when the port is unmasked. */
    send_event(near);
    CHECK(!xennet_unmask_port(far));
    CHECK(!HYPERVISOR_sched_op(SCHEDOP_block, NULL));
    CHECK(nr_taken == 1 && taken[0] == far && nr_upcalls == 1);
    /* With upcalls held back nothing is called before they are let in. */
    HYPERVISOR_shared_info->vcpu_info[0].evtchn_upcall_mask = 1;
    send_event(near);
    while (!readable()) ;
    CHECK(!xennet_deliver() && nr_taken == 1);
    CHECK(!HYPERVISOR_sched_op(SCHEDOP_block, NULL) && nr_taken == 2);
    send_event(near);
    while (!readable()) ;
    CHECK(!HYPERVISOR_sched_op(SCHEDOP_yield, NULL) && nr_taken == 3);
    xennet_mask_port(far);
    evtchn_close_t close = { .port = near };
    CHECK(!HYPERVISOR_event_channel_op(EVTCHNOP_close, &close));
    CHECK(HYPERVISOR_event_channel_op(EVTCHNOP_close, &close) == -EINVAL);
    close.port = far;
    CHECK(!HYPERVISOR_event_channel_op(EVTCHNOP_close, &close));
    CHECK(HYPERVISOR_event_channel_op(EVTCHNOP_close, NULL) == -EFAULT);
}

static void version(void)
{
    xen_extraversion_t extra;
    xen_feature_info_t features = { .submap_idx = 0, .submap = 77 };
    CHECK(HYPERVISOR_xen_version(XENVER_version, NULL) == (4 << 16 | 17));
    CHECK(HYPERVISOR_xen_version(XENVER_pagesize, NULL) == (int)PAGE);
    CHECK(!HYPERVISOR_xen_version(XENVER_extraversion, extra) && !strcmp(extra, ".xennet"));
    CHECK(!HYPERVISOR_xen_version(XENVER_get_features, &features) && !features.submap);
}

static domid_t own_domid(void)
{
    evtchn_alloc_unbound_t alloc = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    CHECK(!HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &alloc));
    evtchn_status_t status = { .dom = DOMID_SELF, .port = alloc.port };
    CHECK(!HYPERVISOR_event_channel_op(EVTCHNOP_status, &status) && status.status == EVTCHNSTAT_unbound);
    evtchn_close_t close = { .port = alloc.port };
    CHECK(!HYPERVISOR_event_channel_op(EVTCHNOP_close, &close));
    return status.u.unbound.dom;
}

int main(int argc, char **argv)
{
    int rc = xennet_guest_start();
    if (argc > 1) { /* only whether it can start */
        printf("%d\n", rc);
        return 0;
    }
    CHECK(!rc && xennet_guest_start() == -EBUSY);
    CHECK(!strncmp(xennet_start_info.magic, "xen-3.0-", 8) && !(xennet_start_info.flags & SIF_INITDOMAIN));
    CHECK(ioctl(xennet_upcall_fd(), _IOC(_IOC_NONE, 'X', 9, 8), argv) < 0 && errno == ENOTTY);
    int second = open("/dev/xen/guest", O_RDWR);
    CHECK(second < 0 && errno == EBUSY);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, xennet_upcall_fd(), (off_t)xennet_start_info.shared_info) == MAP_FAILED);
    xennet_set_upcall(upcall);
    domid_t self = own_domid();
    version();
    memory();
    grants(self);
    events(self);
    printf("ok\n");
    fflush(stdout);
    sched_shutdown_t end = { .reason = SHUTDOWN_reboot };
    HYPERVISOR_sched_op(SCHEDOP_shutdown, &end);
    return 99;
}
