/* A program on raw netmap: open, NIOCCTRL, mmap, rings, poll. netmap_numbers.h is made of the recorded
 * layout (tests/data/netmap_abi.json). argv: what to do, a port, numbers; one line of answer. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "netmap_numbers.h"

#define AT(type, base, what) (*(volatile type *)((char *)(base) + (what)))
#define U32(base, what) AT(uint32_t, base, what)

struct port {
    int fd;
    uint64_t memsize;
    char *memory, *netif;
    uint32_t offset;
};
static int last_status; /* of the option */

static void fail(const char *what) { printf("%s: %d\n", what, errno); exit(1); }

/* NIOCCTRL with a body and at most one option. */
static int control(int fd, int type, const char *name, void *body, void *option) {
    char header[SIZE_nmreq_header] = { 0 };
    AT(uint16_t, header, OFF_nmreq_header_nr_version) = NETMAP_API;
    AT(uint16_t, header, OFF_nmreq_header_nr_reqtype) = type;
    strncpy(header + OFF_nmreq_header_nr_name, name, 63);
    AT(uint64_t, header, OFF_nmreq_header_nr_body) = (uintptr_t)body;
    AT(uint64_t, header, OFF_nmreq_header_nr_options) = (uintptr_t)option;
    int rc = ioctl(fd, NIOCCTRL, header);
    if (option) last_status = U32(option, OFF_nmreq_option_nro_status);
    return rc;
}

static int try_open(struct port *p, const char *name, int slots, int flags, void *option, char *memory) {
    char body[SIZE_nmreq_register] = { 0 };
    p->fd = open("/dev/netmap", O_RDWR);
    if (p->fd < 0) return -1;
    U32(body, OFF_nmreq_register_nr_tx_slots) = slots;
    U32(body, OFF_nmreq_register_nr_rx_slots) = slots;
    U32(body, OFF_nmreq_register_nr_mode) = NR_REG_ALL_NIC;
    AT(uint64_t, body, OFF_nmreq_register_nr_flags) = flags;
    if (control(p->fd, NETMAP_REQ_REGISTER, name, body, option) < 0) return -1;
    p->memsize = AT(uint64_t, body, OFF_nmreq_register_nr_memsize);
    p->offset = AT(uint64_t, body, OFF_nmreq_register_nr_offset);
    p->memory = memory ? memory : mmap(NULL, p->memsize, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
    if (p->memory == MAP_FAILED) return -1;
    p->netif = p->memory + p->offset;
    return 0;
}
static struct port opened(const char *name, int slots, int flags) {
    struct port p;
    if (try_open(&p, name, slots, flags, NULL, NULL) < 0) fail("open");
    return p;
}

static char *ring(struct port *p, int tx) {
    uint32_t before = tx ? 0 : U32(p->netif, OFF_netmap_if_ni_tx_rings) + U32(p->netif, OFF_netmap_if_ni_host_tx_rings);
    return p->netif + AT(int64_t, p->netif, SIZE_netmap_if + 8 * before);
}
static char *slot_of(char *r, uint32_t i) { return r + SIZE_netmap_ring + i * SIZE_netmap_slot; }
static char *buffer(char *r, char *slot) {
    return r + AT(int64_t, r, OFF_netmap_ring_buf_ofs) + (uint64_t)U32(slot, OFF_netmap_slot_buf_idx) * U32(r, OFF_netmap_ring_nr_buf_size);
}
#define HEAD(r) U32(r, OFF_netmap_ring_head)
#define CUR(r) U32(r, OFF_netmap_ring_cur)
#define TAIL(r) U32(r, OFF_netmap_ring_tail)
#define SLOTS(r) U32(r, OFF_netmap_ring_num_slots)
static uint32_t space(char *r) { int n = (int)(TAIL(r) - HEAD(r)); return n < 0 ? n + SLOTS(r) : n; }

/* Wait until something is so, by "poll", "ppoll", "select" or "epoll"; "twice": and for something else of
 * the same file. */
static void wait_for(int fd, int events, const char *how) {
    if (!strcmp(how, "select")) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(fd, &set);
        if (select(fd + 1, events & POLLIN ? &set : NULL, events & POLLOUT ? &set : NULL, NULL, NULL) != 1) fail("select");
        return;
    }
    if (!strcmp(how, "epoll")) {
        static int set = -1;
        struct epoll_event e = { events, { .u64 = 7 } };
        if (set < 0) {
            set = epoll_create1(0);
            if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &e)) fail("epoll_ctl");
            if (!epoll_ctl(set, EPOLL_CTL_ADD, fd, &e) || errno != EEXIST) fail("epoll_ctl again");
        } else if (epoll_ctl(set, EPOLL_CTL_MOD, fd, &e)) fail("epoll_ctl");
        if (epoll_wait(set, &e, 1, -1) != 1 || !(e.events & events) || e.data.u64 != 7) fail("epoll_wait");
        return;
    }
    struct pollfd f[2] = { { fd, events, 0 }, { strcmp(how, "twice") ? -1 : fd, POLLPRI, 0 } };
    int rc = strcmp(how, "ppoll") ? poll(f, 2, -1) : ppoll(f, 2, NULL, NULL);
    if (rc != 1 || !(f[0].revents & events)) { printf("poll: %d %d\n", rc, f[0].revents); exit(1); }
}

static const unsigned char header[14] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 };
/* Numbered frames, batch at a time; with all of them out. */
static void send_frames(struct port *p, uint64_t count, uint32_t batch, int length, const char *how, int fill) {
    char *r = ring(p, 1);
    for (uint64_t i = 0; i < count; ) {
        if (!space(r)) wait_for(p->fd, POLLOUT, how);
        uint32_t n = space(r), head = HEAD(r);
        if (n > batch) n = batch;
        if (n > count - i) n = (uint32_t)(count - i);
        for (uint32_t k = 0; k < n; k++, i++) {
            char *s = slot_of(r, head);
            AT(uint16_t, s, OFF_netmap_slot_len) = length;
            if (fill) {
                char *b = buffer(r, s);
                memcpy(b, header, sizeof header);
                memcpy(b + sizeof header, &i, sizeof i);
            }
            head = head + 1 == SLOTS(r) ? 0 : head + 1;
        }
        HEAD(r) = CUR(r) = head;
        if (ioctl(p->fd, NIOCTXSYNC, NULL) < 0) fail("txsync");
    }
}
/* Take so many; numbers follow each other, from first on. Returns how many did not. */
static uint64_t receive_frames(struct port *p, uint64_t count, const char *how, int look) {
    char *r = ring(p, 0);
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < count; ) {
        if (!space(r)) wait_for(p->fd, POLLIN, how);
        uint32_t n = space(r), head = HEAD(r);
        if (n > count - i) n = (uint32_t)(count - i);
        for (uint32_t k = 0; k < n; k++, i++) {
            if (look && memcmp(buffer(r, slot_of(r, head)) + sizeof header, &i, sizeof i)) wrong++;
            head = head + 1 == SLOTS(r) ? 0 : head + 1;
        }
        HEAD(r) = CUR(r) = head;
    }
    if (ioctl(p->fd, NIOCRXSYNC, NULL) < 0) fail("rxsync");
    return wrong;
}

static double cpu(void) { struct timespec t; clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static double clock_now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }

/* --- a kernel loop ------------------------------------------------------------------------------ */

static struct port looped;
static int loop_result = -2;
static void *loop_thread(void *option) {
    char body[SIZE_nmreq_sync_kloop_start] = { 0 };
    U32(body, OFF_nmreq_sync_kloop_start_sleep_us) = 100;
    loop_result = control(looped.fd, NETMAP_REQ_SYNC_KLOOP_START, "", body, option) < 0 ? errno : 0;
    return NULL;
}
static int kernel_loop(const char *name, int count, int events) {
    static char blocks[2][128] __attribute__((aligned(64)));
    struct { char head[SIZE_nmreq_option]; uint64_t atok, ktoa; } csb = { { 0 }, (uintptr_t)blocks[0], (uintptr_t)blocks[1] };
    U32(csb.head, OFF_nmreq_option_nro_reqtype) = NETMAP_REQ_OPT_CSB;
    AT(uint64_t, csb.head, OFF_nmreq_option_nro_size) = 16;
    if (try_open(&looped, name, 64, NR_EXCLUSIVE, &csb, NULL) < 0) fail("open");
    struct { char head[SIZE_nmreq_option]; int32_t fd[4]; } fds = { { 0 }, { 0 } };
    U32(fds.head, OFF_nmreq_option_nro_reqtype) = NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS;
    AT(uint64_t, fds.head, OFF_nmreq_option_nro_size) = sizeof fds;
    for (int i = 0; i < 4; i++) fds.fd[i] = eventfd(0, EFD_NONBLOCK);
    pthread_t thread;
    pthread_create(&thread, NULL, loop_thread, events ? &fds : NULL);
    char *r = ring(&looped, 1), *atok = blocks[0], *ktoa = blocks[1];
    uint32_t head = 0;
    for (uint64_t i = 0; i < (uint64_t)count; ) {
        uint32_t tail = U32(ktoa, OFF_nm_csb_ktoa_hwtail);
        if (head == tail) { /* with events the loop says so, else it looks by itself */
            struct pollfd f = { fds.fd[1], POLLIN, 0 };
            uint64_t told;
            if (poll(&f, 1, events ? 10 : 1) == 1 && read(f.fd, &told, 8) != 8) fail("read");
        }
        while (head != U32(ktoa, OFF_nm_csb_ktoa_hwtail) && i < (uint64_t)count) {
            char *s = slot_of(r, head), *b = buffer(r, s);
            AT(uint16_t, s, OFF_netmap_slot_len) = 60;
            memcpy(b, header, sizeof header);
            memcpy(b + sizeof header, &i, sizeof i);
            head = head + 1 == SLOTS(r) ? 0 : head + 1;
            i++;
        }
        U32(atok, OFF_nm_csb_atok_cur) = head;
        __sync_synchronize();
        U32(atok, OFF_nm_csb_atok_head) = head;
        __sync_synchronize();
        if (events && U32(ktoa, OFF_nm_csb_ktoa_kern_need_kick) && eventfd_write(fds.fd[0], 1)) fail("kick");
    }
    while (U32(ktoa, OFF_nm_csb_ktoa_hwcur) != head) {
        if (events) eventfd_write(fds.fd[0], 1);
        poll(NULL, 0, 1);
    }
    int running = loop_result == -2;
    if (control(looped.fd, NETMAP_REQ_SYNC_KLOOP_STOP, "", NULL, NULL) < 0) fail("stop");
    pthread_join(thread, NULL);
    int rc = ioctl(looped.fd, NIOCTXSYNC, NULL);
    printf("%d frames, running %d, start returned %d, txsync %d %d\n", count, running, loop_result, rc, errno);
    return 0;
}

/* --- descriptors that wander -------------------------------------------------------------------- */

static int pass(const char *name) {
    int ends[2];
    struct port p = opened(name, 16, 0);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) fail("socketpair");
    pid_t child = fork();
    if (!child) { /* has what it inherited, closes it, and gets it again */
        close(p.fd);
        char byte, space_for[CMSG_SPACE(sizeof(int))];
        struct iovec v = { &byte, 1 };
        struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = space_for, .msg_controllen = sizeof space_for };
        if (recvmsg(ends[1], &m, 0) != 1) _exit(2);
        memcpy(&p.fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
        munmap(p.memory, p.memsize);
        p.memory = mmap(NULL, p.memsize, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0);
        if (p.memory == MAP_FAILED) _exit(3);
        p.netif = p.memory + p.offset;
        send_frames(&p, 3, 8, 60, "poll", 1);
        struct pollfd f = { p.fd, POLLIN, 0 };
        _exit(poll(&f, 1, -1) == 1 && f.revents == POLLIN ? 0 : 4);
    }
    char byte = 0, space_for[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec v = { &byte, 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = space_for, .msg_controllen = sizeof space_for };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &p.fd, sizeof(int));
    if (sendmsg(ends[0], &m, 0) != 1) fail("sendmsg");
    close(p.fd);
    munmap(p.memory, p.memsize);
    int status;
    waitpid(child, &status, 0);
    printf("child %d\n", status);
    return 0;
}

static void *sleep_thread(void *port) {
    wait_for(((struct port *)port)->fd, POLLIN, "poll");
    return NULL;
}

/* --- what is refused ---------------------------------------------------------------------------- */

#define TELL(call) do { errno = 0; long rc_ = (long)(call); printf(rc_ < 0 ? "-%d " : "0 ", errno); } while (0)
static int odd(const char *name) {
    char byte[8] = { 0 };
    int fd = open("/dev/netmap", O_RDWR);
    if (fd < 0) fail("open");
    struct pollfd f = { fd, POLLIN | POLLOUT, 0 };
    TELL(ioctl(fd, NIOCTXSYNC, NULL));
    TELL(ioctl(fd, NIOCCTRL, NULL));
    TELL(ioctl(fd, NIOCCTRL, (void *)8));
    TELL(ioctl(fd, 0x6999, NULL));
    TELL(read(fd, byte, 8));
    TELL(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
    int rc = poll(&f, 1, -1);
    printf("poll %d %d ", rc, f.revents);
    struct port p = opened(name, 16, NR_EXCLUSIVE), q;
    TELL(try_open(&q, name, 16, 0, NULL, NULL));
    TELL(try_open(&q, "nosuch", 16, 0, NULL, NULL));
    TELL(mmap(NULL, p.memsize + 4096, PROT_READ, MAP_SHARED, p.fd, 0) == MAP_FAILED ? -1 : 0);
    f = (struct pollfd){ p.fd, POLLIN, 0 };
    printf("poll %d ", poll(&f, 1, 20)); /* nothing comes */
    f.events = 0;
    printf("%d ", poll(&f, 1, 0));
    f.events = POLLIN | POLLOUT;
    rc = poll(&f, 1, -1);
    printf("%d %d ", rc, f.revents);
    printf("%d\n", open("/dev/netmapx", O_RDWR) < 0 ? errno : 0);
    return 0;
}

/* --- legacy, extmem ----------------------------------------------------------------------------- */

static int legacy(const char *name) {
    char r[SIZE_nmreq] = { 0 };
    int fd = open("/dev/netmap", O_RDWR);
    strncpy(r + OFF_nmreq_nr_name, name, 15);
    U32(r, OFF_nmreq_nr_version) = 14;
    if (ioctl(fd, NIOCGINFO, r) < 0) fail("NIOCGINFO");
    printf("%u slots ", U32(r, OFF_nmreq_nr_tx_slots));
    memset(r + OFF_nmreq_nr_name + 16, 0, sizeof r - OFF_nmreq_nr_name - 16);
    U32(r, OFF_nmreq_nr_version) = 14;
    U32(r, OFF_nmreq_nr_flags) = NR_REG_ALL_NIC;
    if (ioctl(fd, NIOCREGIF, r) < 0) fail("NIOCREGIF");
    struct port p = { fd, U32(r, OFF_nmreq_nr_memsize), NULL, NULL, U32(r, OFF_nmreq_nr_offset) };
    p.memory = mmap(NULL, p.memsize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p.memory == MAP_FAILED) fail("mmap");
    p.netif = p.memory + p.offset;
    send_frames(&p, 3, 8, 60, "poll", 1);
    printf("sent\n");
    return 0;
}

/* The program's own memory, private or shared with a file, is the region. */
static int extmem(const char *name, int shared) {
    size_t size = 16 << 20;
    int file = shared ? memfd_create("own", 0) : -1;
    if (shared && ftruncate(file, size)) fail("ftruncate");
    char *own = mmap(NULL, size, PROT_READ | PROT_WRITE, shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, file, 0);
    char option[SIZE_nmreq_opt_extmem] = { 0 };
    U32(option, OFF_nmreq_option_nro_reqtype) = NETMAP_REQ_OPT_EXTMEM;
    AT(uint64_t, option, OFF_nmreq_option_nro_size) = SIZE_nmreq_opt_extmem - SIZE_nmreq_option;
    AT(uint64_t, option, OFF_nmreq_opt_extmem_nro_usrptr) = (uintptr_t)own;
    AT(uint64_t, option, OFF_nmreq_opt_extmem_nro_info) = size; /* its first field is nr_memsize */
    struct port p;
    if (try_open(&p, name, 16, 0, option, own) < 0) { printf("status %d ", last_status); fail("extmem"); }
    send_frames(&p, 3, 8, 60, "poll", 1);
    printf("sent, first word %x\n", *(uint32_t *)own != 0);
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "", *name = argc > 2 ? argv[2] : "";
    uint64_t count = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;
    const char *how = argc > 4 ? argv[4] : "poll";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(what, "send")) {
        struct port p = opened(name, 0, 0);
        send_frames(&p, count, 512, 60, how, 1);
        printf("sent %llu\n", (unsigned long long)count);
    } else if (!strcmp(what, "receive")) {
        struct port p = opened(name, 0, 0);
        printf("ready\n");
        uint64_t wrong = receive_frames(&p, count, how, 1);
        printf("received %llu, %llu wrong\n", (unsigned long long)count, (unsigned long long)wrong);
    } else if (!strcmp(what, "fork")) { /* the child has what its parent had, and outlives it */
        struct port p = opened(name, 0, 0);
        if (fork()) _exit(0);
        send_frames(&p, count, 64, 60, how, 1);
        printf("sent\n");
    } else if (!strcmp(what, "threads")) { /* one sleeps for frames, one for nothing, while one sends */
        struct port p = opened(name, 0, 0);
        pthread_t sleeper[2];
        for (int i = 0; i < 2; i++) pthread_create(&sleeper[i], NULL, sleep_thread, &p);
        send_frames(&p, count, 64, 60, how, 1);
        printf("sent\n");
        for (int i = 0; i < 2; i++) pthread_join(sleeper[i], NULL);
        printf("woken\n");
    } else if (!strcmp(what, "hold")) { /* until it is killed, with frames on the way */
        struct port p = opened(name, 0, 0);
        printf("ready\n");
        for (;;) send_frames(&p, 100, 16, 60, how, 1);
    } else if (!strcmp(what, "sleep")) { /* in poll, for frames that may never come */
        struct port p = opened(name, 0, 0);
        printf("ready\n");
        wait_for(p.fd, POLLIN, how);
        printf("woken %u\n", space(ring(&p, 0)));
    } else if (!strcmp(what, "keep")) { /* closed, but mapped; unmapped when a line comes */
        struct port p = opened(name, 0, 0);
        char line[8];
        close(p.fd);
        printf("closed\n");
        if (!fgets(line, sizeof line, stdin)) return 1;
        munmap(p.memory, p.memsize);
        printf("unmapped\n");
        if (!fgets(line, sizeof line, stdin)) return 1;
    } else if (!strcmp(what, "kloop")) return kernel_loop(name, (int)count, !strcmp(how, "events"));
    else if (!strcmp(what, "pass")) return pass(name);
    else if (!strcmp(what, "odd")) return odd(name);
    else if (!strcmp(what, "legacy")) return legacy(name);
    else if (!strcmp(what, "extmem")) return extmem(name, !strcmp(how, "shared"));
    else if (!strcmp(what, "roundtrips")) { /* microseconds of one TXSYNC, of one poll */
        struct port p = opened(name, 0, 0);
        struct pollfd f = { p.fd, POLLOUT, 0 };
        double best[2] = { 1e9, 1e9 };
        for (int round = 0; round < 10; round++) {
            double begin = clock_now();
            for (uint64_t i = 0; i < count; i++) ioctl(p.fd, NIOCTXSYNC, NULL);
            double middle = clock_now();
            for (uint64_t i = 0; i < count; i++) poll(&f, 1, -1);
            double end = clock_now();
            if (middle - begin < best[0]) best[0] = middle - begin;
            if (end - middle < best[1]) best[1] = end - middle;
        }
        printf("%.2f %.2f\n", best[0] / count * 1e6, best[1] / count * 1e6);
    } else if (!strcmp(what, "speed")) { /* as pkt-gen -f tx, -f rx: frames are not looked at */
        struct port p = opened(name, 0, 0);
        double begin, used = cpu();
        printf("ready\n");
        char line[8];
        if (!fgets(line, sizeof line, stdin)) return 1;
        begin = clock_now();
        if (strcmp(how, "rx")) send_frames(&p, count, 512, 60, "poll", 0);
        else receive_frames(&p, count, "poll", 0);
        printf("%.6f %.6f\n", clock_now() - begin, cpu() - used);
    } else return 2;
    return 0;
}
