/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Where frames come from and go to: captures (pcap, Ethernet), or a generator. */
#ifndef FRAMES_H
#define FRAMES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_FRAME 65535

struct pcap_head { uint32_t magic; uint16_t major, minor; uint32_t zone, sigfigs, snaplen, linktype; };
struct pcap_frame { uint32_t sec, usec, captured, length; };

/* Frames to send: those of a capture, or count ones of size bytes. */
struct source { FILE *capture; unsigned int size; unsigned long count, made; };
/* Frames that came: counted, and recorded if there is a file. */
struct sink { FILE *capture; unsigned long frames, bytes; };

static void frames_open_source(struct source *s, const char *path)
{
    struct pcap_head head;
    s->capture = fopen(path, "rb");
    if (!s->capture || fread(&head, sizeof head, 1, s->capture) != 1
        || (head.magic != 0xa1b2c3d4 && head.magic != 0xa1b23c4d)) {
        fprintf(stderr, "%s: no capture of this machine's byte order\n", path);
        exit(2);
    }
}

static void frames_set_size(struct source *s, const char *text)
{
    char *end;
    long size = strtol(text, &end, 10);
    if (end == text || *end || size < 0 || size > MOST_FRAME) {
        fprintf(stderr, "%s: a frame has 0 to %d bytes\n", text, MOST_FRAME);
        exit(2);
    }
    s->size = size;
}

static void frames_open_sink(struct sink *s, const char *path)
{
    struct pcap_head head = { 0xa1b2c3d4, 2, 4, 0, 0, MOST_FRAME, 1 };
    s->capture = fopen(path, "wb");
    if (!s->capture || fwrite(&head, sizeof head, 1, s->capture) != 1) {
        perror(path);
        exit(2);
    }
}

/* The next frame; 0 when there is none left. */
static unsigned int frames_next(struct source *s, unsigned char *frame)
{
    static const unsigned char head[14] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 };
    struct pcap_frame f;
    if (s->capture) {
        if (fread(&f, sizeof f, 1, s->capture) != 1) return 0;
        if (f.captured > MOST_FRAME || fread(frame, 1, f.captured, s->capture) != f.captured) return 0;
        return f.captured;
    }
    if (s->made == s->count) return 0;
    for (unsigned int i = 0; i < s->size; i++) frame[i] = i < 14 ? head[i] : (unsigned char)(s->made + i);
    s->made++;
    return s->size;
}

static void frames_record(struct sink *s, const unsigned char *frame, unsigned int length)
{
    struct pcap_frame f = { 0, 0, length, length };
    s->frames++;
    s->bytes += length;
    if (s->capture && (fwrite(&f, sizeof f, 1, s->capture) != 1 || fwrite(frame, 1, length, s->capture) != length)) {
        perror("recording");
        exit(2);
    }
}

static void frames_close(struct sink *s)
{
    if (s->capture && fclose(s->capture)) perror("recording");
    s->capture = NULL;
}

#endif
