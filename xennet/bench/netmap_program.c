/* A program on raw netmap, as pkt-gen is one: registers a port, and sends, receives, or only syncs.
 * argv: "send", "receive" or "sync", the port, a count. Prints seconds, or microseconds of a TXSYNC and
 * of a poll. The layout comes from xennet.abi.netmap as macros (xennet/bench/netmap_programs.py). */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define BURST 512
#define WORD(base, offset) (*(volatile uint32_t *)((char *)(base) + (offset)))
#define WIDE(base, offset) (*(volatile uint64_t *)((char *)(base) + (offset)))

static int fd;
static char *netif;

static void die(const char *what) { perror(what); exit(1); }
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }

static void open_port(const char *name) {
    char header[HEADER_SIZE] = { 0 }, body[REGISTER_SIZE] = { 0 };
    if ((fd = open("/dev/netmap", O_RDWR)) < 0) die("/dev/netmap");
    *(uint16_t *)(header + HEADER_nr_version) = NETMAP_API;
    *(uint16_t *)(header + HEADER_nr_reqtype) = NETMAP_REQ_REGISTER;
    strncpy(header + HEADER_nr_name, name, 63);
    WIDE(header, HEADER_nr_body) = (uintptr_t)body;
    WORD(body, REGISTER_nr_mode) = NR_REG_ALL_NIC;
    if (ioctl(fd, NIOCCTRL, header)) die(name);
    char *memory = mmap(NULL, WIDE(body, REGISTER_nr_memsize), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) die("mmap");
    netif = memory + WIDE(body, REGISTER_nr_offset);
}

/* Hand over count slots of a ring, as many at a time as it has. */
static void move(uint64_t count, int receive) {
    char *ring = netif + WIDE(netif, IF_SIZE + (receive ? 16 : 0)); /* tx, host tx, rx */
    struct pollfd f = { fd, receive ? POLLIN : POLLOUT, 0 };
    uint32_t slots = WORD(ring, RING_num_slots), head = WORD(ring, RING_head);
    while (count) {
        uint32_t tail = WORD(ring, RING_tail), n = (tail + slots - head) % slots;
        if (!n) {
            if (poll(&f, 1, -1) != 1 || f.revents & POLLERR) die("poll");
            continue;
        }
        if (n > BURST) n = BURST;
        if (n > count) n = count;
        for (uint32_t i = 0, at = head; i < n && !receive; i++, at = at + 1 == slots ? 0 : at + 1)
            *(uint16_t *)(ring + RING_SIZE + at * SLOT_SIZE + SLOT_len) = 60;
        head = (head + n) % slots;
        WORD(ring, RING_head) = WORD(ring, RING_cur) = head;
        count -= n;
        if (!receive && ioctl(fd, NIOCTXSYNC, NULL)) die("NIOCTXSYNC");
    }
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    open_port(argv[2]);
    uint64_t count = strtoull(argv[3], NULL, 0);
    double begin = now(), best[2] = { 1e9, 1e9 };
    if (!strcmp(argv[1], "sync")) {
        struct pollfd f = { fd, POLLOUT, 0 };
        for (int round = 0; round < 20; round++)
            for (int what = 0; what < 2; what++) {
                begin = now();
                for (uint64_t i = 0; i < count; i++) if (what ? poll(&f, 1, -1) != 1 : ioctl(fd, NIOCTXSYNC, NULL)) die("sync");
                double took = (now() - begin) / count * 1e6;
                if (took < best[what]) best[what] = took;
            }
        printf("%.3f %.3f\n", best[0], best[1]);
        return 0;
    }
    move(count, !strcmp(argv[1], "receive"));
    printf("%.6f\n", now() - begin);
    return 0;
}
