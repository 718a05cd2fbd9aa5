/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Judges netback_pass() by the vectors in a folder that `xennet check vectors -o FOLDER` wrote:
 * judge FOLDER. Prints what differs; exit code 0: nothing, 1: something, 2: no vectors. JSON is read
 * with jansson. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include "netback_core.h"

#define PAGE 4096
enum result { TAKEN, DROPPED, REFUSED, WAITS, WRONG, GIVEN_UP };

static uint8_t payload[64 * PAGE];
static const char *folder;
static json_t *vector;
static long first_gref, failed;

static long number(json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static unsigned int truth(json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

static void differs(const char *what)
{
    printf("%s: %s (%s)\n", json_string_value(json_object_get(vector, "name")), what,
           json_string_value(json_object_get(vector, "rule")));
    failed++;
}

static void read_file(const char *name, void *into, size_t size)
{
    char path[4096];
    FILE *file;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "rb");
    if (file == NULL || fread(into, 1, size, file) != size) {
        perror(path);
        exit(2);
    }
    fclose(file);
}

static const uint8_t *lookup(uint32_t gref)
{
    size_t at;
    json_t *grant;
    json_array_foreach(json_object_get(vector, "grants"), at, grant)
        if (number(grant, "gref") == (long)gref)
            return json_is_null(json_object_get(grant, "page")) ? NULL : payload + number(grant, "page") * PAGE;
    return gref >= first_gref && gref < first_gref + 64 ? payload + (gref - first_gref) * PAGE : NULL;
}

static uint32_t crc32_of(const uint8_t *data, unsigned int length)
{
    uint32_t crc = ~0U;
    while (length--) {
        crc ^= *data++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
    }
    return ~crc;
}

static int16_t status_of(const uint8_t *ring, uint32_t index, uint16_t *id)
{
    int16_t status;
    memcpy(id, ring + 64 + index % 256 * 12, 2);
    memcpy(&status, ring + 64 + index % 256 * 12 + 2, 2);
    return status;
}

/* The first packets and slots are as the vector says; all of them if whole. */
static void compare(const uint8_t *ring, const struct pass *pass, uint32_t start, size_t packets, size_t slots, int whole)
{
    size_t at;
    json_t *wanted;
    if (whole ? pass->packets != packets || pass->req_cons - start != slots
              : pass->packets < packets || pass->req_cons - start < slots)
        return differs("other packets or other slots are consumed");
    json_array_foreach(json_object_get(vector, "packets"), at, wanted) {
        const struct packet *packet = &pass->packet[at];
        if (at == packets) break;
        if (packet->length != number(wanted, "length") ||
            crc32_of(packet->data, packet->length) != number(wanted, "crc32") ||
            packet->csum_blank != truth(wanted, "csum_blank") || packet->data_validated != truth(wanted, "data_validated") ||
            packet->gso_size != number(wanted, "gso_size") || packet->gso_type != number(wanted, "gso_type"))
            return differs("a packet is another");
    }
    json_array_foreach(json_object_get(vector, "responses"), at, wanted) {
        uint16_t id;
        int16_t status;
        if (at == slots) break;
        status = status_of(ring, number(wanted, "index"), &id);
        if (status != number(wanted, "status") && !(truth(wanted, "or_error") && (status == 0 || status == -1)))
            return differs("another status");
        if (!json_is_null(json_object_get(wanted, "id")) && id != number(wanted, "id"))
            return differs("another id");
    }
}

static void judge(void)
{
    static struct pass pass;
    static uint8_t ring[PAGE];
    static const char *const names[] = {"taken", "dropped", "refused", "waits", "", "given-up"};
    json_t *results = json_object_get(vector, "results"), *settled = json_object_get(vector, "settled");
    uint32_t start = number(vector, "start");
    const char *first = json_string_value(json_array_get(results, 0));
    int as_linux;
    pass.req_cons = start;
    pass.packets = pass.given_up = pass.notify = 0;
    read_file(json_string_value(json_object_get(vector, "page")), ring, PAGE);
    netback_pass(ring, lookup, &pass);
    as_linux = pass.given_up == !strcmp(first, names[GIVEN_UP]) &&
               (json_array_size(results) == 1 || pass.packets == json_array_size(json_object_get(vector, "packets")));
    if (!as_linux && json_array_size(results) == 1) return differs("another result");
    if (as_linux)
        compare(ring, &pass, start, json_array_size(json_object_get(vector, "packets")), number(vector, "consumed"), 1);
    else
        compare(ring, &pass, start, number(settled, "packets"), number(settled, "slots"), 0);
    if (as_linux && !json_is_null(json_object_get(vector, "notify")) && pass.notify != truth(vector, "notify"))
        differs("the frontend is, or is not, notified");
}

int main(int argc, char **argv)
{
    size_t at;
    json_t *all;
    char path[4096];
    folder = argc == 2 ? argv[1] : ".";
    snprintf(path, sizeof path, "%s/vectors.json", folder);
    if ((all = json_load_file(path, 0, NULL)) == NULL) return fprintf(stderr, "%s: no vectors\n", path), 2;
    first_gref = number(all, "first_gref");
    read_file(json_string_value(json_object_get(all, "payload")), payload, sizeof payload);
    json_array_foreach(json_object_get(all, "netback_tx"), at, vector) judge();
    printf("%zu vectors, %ld differ\n", at, failed);
    json_decref(all);
    return failed ? 1 : 0;
}
