/* Hypercalls of all kinds with arguments of all kinds, mappings of all kinds of frames, and nonsense
 * in every page that a kernel shares with others: SEED COUNT. What comes back is not looked at. */
#include "xennet-guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define MEMORY 65536

static uint64_t state;
static uint64_t number(void) { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return state; }
static uint64_t one_of(const uint64_t *of, unsigned int n) { return number() % 4 ? of[number() % n] : number(); }

/* A few words of shared info, grant table or store ring, and an event for xenstored. */
static void scribble(void)
{
    uint64_t *pages[] = { (uint64_t *)HYPERVISOR_shared_info, (uint64_t *)xennet_store_ring, (uint64_t *)xennet_grant_table(1) };
    uint64_t *page = pages[number() % 3];
    for (int i = 0; page && i < 8; i++) {
        uint64_t word = number() % 2 ? number() : number() % 2048;
        page[number() % 512] = word;
        ((uint32_t *)page)[(number() % 2 ? 512 : 0) + number() % 8] = (uint32_t)word;
    }
    evtchn_send_t send = { .port = xennet_start_info.store_evtchn };
    HYPERVISOR_event_channel_op(EVTCHNOP_send, &send);
}

int main(int argc, char **argv)
{
    /* With nothing behind it: what is written past its end is EFAULT, and no variable of this program. */
    unsigned char *memory = mmap(NULL, MEMORY + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(memory + MEMORY, 4096, PROT_NONE);
    const uint64_t numbers[] = { 12, 17, 20, 29, 32 }, commands[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 };
    const uint64_t words[] = { 0, 1, 2, 3, 7, 8, 9, 10, 16, 0x7ff0, 0x7ff2, 0xffff, 0xffffffff, 4096, (uint64_t)-1 };
    const uint64_t pointers[] = { (uint64_t)memory, (uint64_t)memory + 4096, (uint64_t)memory + MEMORY - 8, 0, 8,
                                  (uint64_t)main, (uint64_t)-1, (uint64_t)-4096, 1ULL << 63 };
    const uint64_t counts[] = { 0, 1, 2, 3, 40, 1024, 1025, 0x80000000, (uint64_t)-1 };
    if (argc < 3 || xennet_guest_start()) return 1;
    state = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15ULL + 1;
    for (int left = atoi(argv[2]); left; left--) {
        for (int i = 0; i < 64; i++) {
            uint64_t word = one_of(words, 15);
            memcpy(memory + number() % 512 * 4, &word, 4);
        }
        if (number() % 8 == 0) { /* pointers inside of structures */
            uint64_t word = pointers[number() % 9];
            memcpy(memory + number() % 16 * 8, &word, 8);
        }
        uint64_t call[6] = { one_of(numbers, 5), one_of(commands, 14), one_of(pointers, 9), one_of(counts, 9), number(), number() };
        if (call[0] == __HYPERVISOR_sched_op && (uint32_t)call[1] == SCHEDOP_shutdown) continue; /* that would be the end */
        ioctl(xennet_upcall_fd(), _IOC(_IOC_NONE, 'X', 0, sizeof call), number() % 64 ? (void *)call : (void *)pointers[number() % 9]);
        if (number() % 32 == 0) scribble();
        if (number() % 16 == 0) {
            size_t size = (number() % 4 + 1) * 4096;
            uint64_t frame = number() % 4 ? number() % 4096 : number() >> 16;
            void *at = mmap(NULL, size, number() % 2 ? PROT_READ : PROT_READ | PROT_WRITE, number() % 8 ? MAP_SHARED : MAP_PRIVATE,
                            xennet_upcall_fd(), (off_t)(frame << 12));
            if (at != MAP_FAILED && number() % 2) munmap(at, size);
        }
    }
    printf("survived\n");
    return 0;
}
