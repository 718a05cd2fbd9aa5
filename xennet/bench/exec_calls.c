/* What a program's calls cost, and a backend that takes frames by grant copy in batches; run by
 * exec_seam.py in domain 0.
 *
 * exec_calls ioctl COUNT            an ioctl that is refused
 * exec_calls round COUNT DOMID PORT notify, and wait for the answer
 * exec_calls back COUNT DOMID PORT TX_REF   takes COUNT frames from a vif's ring; "ready" when it has it
 *
 * Prints the ns that all of it took. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define BATCH 256
#define SLOTS 256
struct request { uint32_t gref; uint16_t offset, flags, id, size; };
struct response { uint16_t id; int16_t status; };
struct ring {
    volatile uint32_t req_prod, req_event, rsp_prod, rsp_event;
    uint8_t pad[48];
    union { struct request request; struct response response; } slot[SLOTS];
};
struct segment {
    uint32_t ref; uint16_t offset, domid;
    void *to;
    uint16_t size, flags;
    int16_t status;
};
struct map { uint32_t count, pad; uint64_t index; uint32_t domid, ref; };
struct copy { uint32_t count; struct segment *segments; };
#define NONE(type, nr, size) _IOC(_IOC_NONE, type, nr, size)

static uint64_t now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000ull + t.tv_nsec; }
static void must(int good, const char *what) { if (!good) { perror(what); exit(1); } }
static int events;
static uint32_t port;
static void notify(void) { must(!ioctl(events, NONE('E', 4, 4), &port), "notify"); }
static void event(void) {
    uint32_t got;
    must(read(events, &got, 4) == 4, "read");
    must(write(events, &got, 4) == 4, "write");
}

static uint64_t back(long count, uint32_t domid, uint32_t ref) {
    int gntdev = open("/dev/xen/gntdev", O_RDWR);
    struct map map = { 1, 0, 0, domid, ref };
    must(!ioctl(gntdev, NONE('G', 0, 24), &map), "map");
    struct ring *ring = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, gntdev, map.index);
    must(ring != MAP_FAILED, "mmap");
    static char frames[BATCH][4096];
    static struct segment segments[BATCH];
    static struct request requests[BATCH];
    memset(frames, 1, sizeof frames);
    uint32_t cons = 0, prod = 0;
    long taken = 0;
    uint64_t begin = 0;
    printf("ready\n");
    fflush(stdout);
    while (taken < count) {
        uint32_t k = 0, to = ring->req_prod;
        __sync_synchronize();
        if (to == cons) {
            ring->req_event = cons + 1;
            __sync_synchronize();
            if (ring->req_prod == cons) event();
            continue;
        }
        if (!begin) begin = now();
        for (; cons != to && k < BATCH; cons++, k++) {
            struct request *r = &requests[k];
            *r = ring->slot[cons % SLOTS].request;
            segments[k] = (struct segment){ r->gref, r->offset, domid, frames[k], r->size, 1, 0 };
        }
        struct copy copy = { k, segments };
        must(!ioctl(gntdev, NONE('G', 8, 16), &copy), "copy");
        uint32_t old = prod;
        for (uint32_t i = 0; i < k; i++, prod++)
            ring->slot[prod % SLOTS].response = (struct response){ requests[i].id, segments[i].status ? -1 : 0 };
        __sync_synchronize();
        ring->rsp_prod = prod;
        __sync_synchronize();
        if (prod - ring->rsp_event < prod - old) notify();
        taken += k;
    }
    return now() - begin;
}

int main(int argc, char **argv) {
    must(argc > 2, "usage");
    long count = atol(argv[2]);
    uint32_t domid = argc > 3 ? atoi(argv[3]) : 0, bind[2] = { domid, argc > 4 ? atoi(argv[4]) : 0 };
    events = open("/dev/xen/evtchn", O_RDWR);
    must(events >= 0, "evtchn");
    uint64_t took;
    if (!strcmp(argv[1], "ioctl")) {
        uint32_t none = 99999;
        uint64_t begin = now();
        for (long i = 0; i < count; i++) must(ioctl(events, NONE('E', 4, 4), &none) < 0, "ioctl");
        took = now() - begin;
    } else {
        int bound = ioctl(events, NONE('E', 1, 8), bind);
        must(bound >= 0, "bind");
        port = bound;
        if (!strcmp(argv[1], "round")) {
            event();
            uint64_t begin = now();
            for (long i = 0; i < count; i++) { notify(); event(); }
            took = now() - begin;
        } else
            took = back(count, domid, atoi(argv[5]));
    }
    printf("%llu\n", (unsigned long long)took);
    fflush(stdout);
    _exit(0);
}
