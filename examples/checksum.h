/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What NETTXF_csum_blank leaves to the backend: the checksum of TCP or UDP over IPv4. */
#ifndef CHECKSUM_H
#define CHECKSUM_H

#include <stdint.h>

static uint32_t sum_words(const unsigned char *data, unsigned int length, uint32_t sum)
{
    for (unsigned int i = 0; i < length; i += 2) sum += data[i] << 8 | (i + 1 < length ? data[i + 1] : 0);
    return sum;
}

/* Fill the checksum in. Returns 0 for a frame that has none to fill in. */
static int complete_checksum(unsigned char *frame, unsigned int length)
{
    unsigned char *ip = frame + 14;
    if (length < 34 || frame[12] != 8 || frame[13]) return 0;
    unsigned int head = (ip[0] & 15) * 4u, total = ip[2] << 8 | ip[3], protocol = ip[9];
    unsigned int at = protocol == 6 ? 16 : protocol == 17 ? 6 : 0; /* of the field, in TCP and in UDP */
    if (ip[0] >> 4 != 4 || !at || head < 20 || total < head + at + 2 || total > length - 14) return 0;
    unsigned char *field = ip + head + at;
    field[0] = field[1] = 0;
    /* The pseudo header: both addresses, the protocol, the length. */
    uint32_t sum = sum_words(ip + head, total - head, sum_words(ip + 12, 8, protocol + total - head));
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    uint16_t checksum = ~sum & 0xffff;
    if (!checksum && protocol == 17) checksum = 0xffff;
    field[0] = checksum >> 8;
    field[1] = checksum & 0xff;
    return 1;
}

#endif
