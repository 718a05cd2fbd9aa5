/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The part of a backend that reads a transmit ring, apart from any machine, so that test vectors
 * can judge it. */
#ifndef NETBACK_CORE_H
#define NETBACK_CORE_H

#include <stdint.h>

struct packet {
    unsigned int length, csum_blank, data_validated, gso_size, gso_type;
    uint8_t data[65536];
};

struct pass {
    uint32_t req_cons;       /* where the pass begins, and then where it ended */
    int given_up; unsigned int notify; /* the frontend; and whether it wants to be told of the responses */
    unsigned int packets;    /* how many of packet[] were delivered */
    struct packet packet[256];
};

/* The granted page, or NULL if the reference grants nothing. */
typedef const uint8_t *grant_lookup(uint32_t gref);

/* One pass over the ring page; responses are written into it. */
void netback_pass(void *ring_page, grant_lookup *lookup, struct pass *pass);

#endif
