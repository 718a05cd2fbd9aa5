/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A kernel's connection to the store, over its ring page (xen/io/xs_wire.h): one request at a time,
 * watch events kept until they are asked for. */
#ifndef STORE_RING_H
#define STORE_RING_H

#include <stdio.h>
#include <stdlib.h>

#include "xennet-guest.h"

#define STORE_TRIES 100 /* of a transaction that others get in the way of */

static unsigned char store_mail[XENSTORE_PAYLOAD_MAX + 1]; /* the payload that was received last */
static struct { char path[256]; } store_event[16];       /* watches that have fired, oldest first */
static unsigned int store_events;

static void store_notify(void)
{
    evtchn_send_t send = { .port = xennet_start_info.store_evtchn };
    HYPERVISOR_event_channel_op(EVTCHNOP_send, &send);
}

/* Sleep until xenstored has moved one of its indices. */
static void store_wait(void)
{
    evtchn_port_t port = xennet_start_info.store_evtchn;
    sched_poll_t poll = { .nr_ports = 1 };
    set_xen_guest_handle(poll.ports, &port);
    HYPERVISOR_sched_op(SCHEDOP_poll, &poll);
    xennet_clear_port(port);
}

static void store_put(const void *data, size_t size)
{
    struct xenstore_domain_interface *ring = xennet_store_ring;
    const char *from = data;
    while (size) {
        XENSTORE_RING_IDX prod = ring->req_prod, cons = __atomic_load_n(&ring->req_cons, __ATOMIC_ACQUIRE);
        if (prod - cons >= XENSTORE_RING_SIZE) {
            store_wait();
            continue;
        }
        ring->req[MASK_XENSTORE_IDX(prod)] = *from++;
        __atomic_store_n(&ring->req_prod, prod + 1, __ATOMIC_RELEASE);
        size--;
    }
}

static void store_get(void *data, size_t size)
{
    struct xenstore_domain_interface *ring = xennet_store_ring;
    char *to = data;
    while (size) {
        XENSTORE_RING_IDX cons = ring->rsp_cons, prod = __atomic_load_n(&ring->rsp_prod, __ATOMIC_ACQUIRE);
        if (prod == cons) {
            store_notify(); /* there is room again */
            store_wait();
            continue;
        }
        *to++ = ring->rsp[MASK_XENSTORE_IDX(cons)];
        __atomic_store_n(&ring->rsp_cons, cons + 1, __ATOMIC_RELEASE);
        size--;
    }
}

/* An event says that something has changed: one for each watch is enough, however much it was that
 * the other end has written. The token of a watch is its path. */
static void store_keep_event(const char *path)
{
    for (unsigned int i = 0; i < store_events; i++)
        if (!strncmp(store_event[i].path, path, sizeof store_event->path - 1)) return;
    if (store_events == sizeof store_event / sizeof *store_event) {
        fprintf(stderr, "store: more than %u watches\n", store_events);
        exit(1);
    }
    snprintf(store_event[store_events++].path, sizeof store_event->path, "%.255s", path);
}

/* One message into store_mail, with a nul behind it. Returns its header; a watch event is kept. */
static struct xsd_sockmsg store_receive(void)
{
    struct xsd_sockmsg head;
    store_get(&head, sizeof head);
    if (head.len > XENSTORE_PAYLOAD_MAX) {
        fprintf(stderr, "store: a message of %u bytes\n", head.len);
        exit(1);
    }
    store_get(store_mail, head.len);
    store_mail[head.len] = 0;
    if (head.type == XS_WATCH_EVENT) store_keep_event((char *)store_mail + strlen((char *)store_mail) + 1);
    return head;
}

/* A request of some strings; nul[i]: whether string i ends with a nul. The answer is in store_mail.
 * Returns 0, or a negative errno. */
static int store_ask(uint32_t type, uint32_t tx, unsigned int n, const char *const *part, const int *nul)
{
    static uint32_t req_id;
    struct xsd_sockmsg head = { .type = type, .req_id = ++req_id, .tx_id = tx };
    for (unsigned int i = 0; i < n; i++) head.len += strlen(part[i]) + (nul[i] ? 1 : 0);
    store_put(&head, sizeof head);
    for (unsigned int i = 0; i < n; i++) store_put(part[i], strlen(part[i]) + (nul[i] ? 1 : 0));
    store_notify();
    do head = store_receive(); while (head.type == XS_WATCH_EVENT || head.req_id != req_id);
    store_notify();
    if (head.type != XS_ERROR) return 0;
    for (unsigned int i = 0; i < sizeof xsd_errors / sizeof *xsd_errors; i++)
        if (!strcmp((char *)store_mail, xsd_errors[i].errstring)) return -xsd_errors[i].errnum;
    return -EIO;
}

/* The value of directory/name in value (size bytes); "" and a negative errno if there is none. */
static int store_read(uint32_t tx, const char *directory, const char *name, char *value, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int rc = store_ask(XS_READ, tx, 1, (const char *const[]){ path }, (const int[]){ 1 });
    snprintf(value, size, "%.*s", (int)size - 1, rc ? "" : (char *)store_mail);
    return rc;
}

static unsigned long store_number(const char *directory, const char *name, unsigned long otherwise)
{
    char value[32], *end;
    if (store_read(0, directory, name, value, sizeof value)) return otherwise;
    unsigned long number = strtoul(value, &end, 10);
    return end == value || *end ? otherwise : number;
}

static int store_write(uint32_t tx, const char *directory, const char *name, unsigned long number)
{
    char path[512], value[32];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    snprintf(value, sizeof value, "%lu", number);
    return store_ask(XS_WRITE, tx, 2, (const char *const[]){ path, value }, (const int[]){ 1, 0 });
}

static int store_watch(const char *path)
{
    return store_ask(XS_WATCH, 0, 2, (const char *const[]){ path, path }, (const int[]){ 1, 1 });
}

static int store_unwatch(const char *path)
{
    return store_ask(XS_UNWATCH, 0, 2, (const char *const[]){ path, path }, (const int[]){ 1, 1 });
}

static uint32_t store_begin(void)
{
    int rc = store_ask(XS_TRANSACTION_START, 0, 1, (const char *const[]){ "" }, (const int[]){ 1 });
    return rc ? 0 : (uint32_t)strtoul((char *)store_mail, NULL, 10);
}

/* 0, or -EAGAIN: somebody else changed what the transaction saw; do it again. */
static int store_commit(uint32_t tx)
{
    return store_ask(XS_TRANSACTION_END, tx, 1, (const char *const[]){ "T" }, (const int[]){ 1 });
}

/* Whether there is something to take: a request that waited for its answer may have taken the event
 * that announced it. */
static int store_has_mail(void)
{
    return store_events || __atomic_load_n(&xennet_store_ring->rsp_prod, __ATOMIC_ACQUIRE) != xennet_store_ring->rsp_cons;
}

/* The path of the watch that has fired first; without one nothing happens. Returns whether there was
 * one. */
static int store_take_event(char *path, size_t size)
{
    if (!store_events && store_has_mail()) {
        store_receive();
        store_notify();
    }
    if (!store_events) return 0;
    snprintf(path, size, "%s", store_event[0].path);
    memmove(store_event, store_event + 1, --store_events * sizeof *store_event);
    return 1;
}

#endif
