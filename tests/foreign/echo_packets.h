/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Packets on their way back, and what is to know of their checksums. */
#ifndef ECHO_PACKETS_H
#define ECHO_PACKETS_H

#include <stdint.h>
#include <string.h>

#define MOST_FRAME 65535u
#define MOST_WAITING 1024u /* packets that wait for room; more are dropped */

/* A frame with its offloads: checksum_blank, a checksum to fill in; validated, one that is known to
 * be good; gso_type 0 (none) or XEN_NETIF_GSO_TYPE_TCPV4 or _TCPV6. */
struct packet {
    unsigned int length;
    int checksum_blank, validated;
    uint8_t gso_type;
    uint16_t gso_size;
    unsigned char frame[MOST_FRAME + 1];
};

struct packets { unsigned int first, waiting; struct packet packet[MOST_WAITING]; };

static struct packet *packets_oldest(struct packets *p) { return p->waiting ? &p->packet[p->first] : NULL; }

/* Where the next packet goes, NULL if there is no room; packets_add() adds it. */
static struct packet *packets_room(struct packets *p)
{
    if (p->waiting == MOST_WAITING) return NULL;
    struct packet *next = &p->packet[(p->first + p->waiting) % MOST_WAITING];
    next->length = next->checksum_blank = next->validated = next->gso_type = next->gso_size = 0;
    return next;
}
static void packets_add(struct packets *p) { p->waiting++; }
static void packets_drop_oldest(struct packets *p) { p->first = (p->first + 1) % MOST_WAITING; p->waiting--; }
static void packets_drop_all(struct packets *p) { p->waiting = 0; }

/* The place of the checksum of TCP or UDP over IP, and where its segment begins. */
struct checksum { int version; unsigned int segment, field, length, protocol, addresses, address_bytes; };

/* Returns 0 for a frame that has none: no IPv4 or IPv6, no TCP or UDP, or cut off. */
static int find_checksum(const unsigned char *frame, unsigned int length, struct checksum *c)
{
    const unsigned char *ip = frame + 14;
    unsigned int end;
    if (length < 34) return 0;
    if (frame[12] == 0x08 && frame[13] == 0x00 && ip[0] >> 4 == 4) {
        *c = (struct checksum){ 4, 14 + (ip[0] & 15) * 4u, 0, 0, ip[9], 26, 8 };
        end = 14 + (ip[2] << 8 | ip[3]);
        if (c->segment < 34) return 0;
    } else if (frame[12] == 0x86 && frame[13] == 0xdd && ip[0] >> 4 == 6 && length >= 54) {
        *c = (struct checksum){ 6, 54, 0, 0, ip[6], 22, 32 };
        end = 54 + (ip[4] << 8 | ip[5]);
    } else return 0;
    unsigned int place = c->protocol == 6 ? 16 : c->protocol == 17 ? 6 : 0;
    if (!place || end > length || c->segment + place + 2 > end) return 0;
    c->field = c->segment + place;
    c->length = end - c->segment;
    return 1;
}

static uint32_t sum_bytes(const unsigned char *data, unsigned int length, uint32_t sum)
{
    for (unsigned int i = 0; i < length; i += 2) sum += data[i] << 8 | (i + 1 < length ? data[i + 1] : 0);
    return sum;
}

static void put_sum(unsigned char *field, uint32_t sum)
{
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    field[0] = sum >> 8 & 0xff;
    field[1] = sum & 0xff;
}

/* Leave the checksum blank: the sum of the pseudo header is there then. */
static void blank(unsigned char *frame, const struct checksum *c)
{
    put_sum(frame + c->field, sum_bytes(frame + c->addresses, c->address_bytes, c->protocol + c->length));
}

/* Fill the checksum in that was left blank. */
static void complete_blank(unsigned char *frame, const struct checksum *c)
{
    unsigned char *field = frame + c->field;
    field[0] = field[1] = 0;
    uint32_t pseudo = sum_bytes(frame + c->addresses, c->address_bytes, c->protocol + c->length);
    put_sum(field, sum_bytes(frame + c->segment, c->length, pseudo));
    field[0] = ~field[0];
    field[1] = ~field[1];
    if (!field[0] && !field[1] && c->protocol == 17) field[0] = field[1] = 0xff;
}

#endif
