/*
 * The speed limit for guest transmit: the work of xennet's kernels in C, in one process, with the
 * ring macros and layouts of the public Xen headers. Usage: climit FRAME_BYTES FRAMES [GUESTS]
 * Prints the seconds taken. With GUESTS each of them sends FRAMES, one after the other, from
 * transmit pages that nobody has touched before; without, one guest sends from warm ones.
 *
 * For each frame: copy into a transmit page, grant entry, request; check request, build copy
 * element, check the grant (type, domain, frame, bounds), copy, response; reap, end the grant.
 */
#define _DEFAULT_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* xen/io/ring.h wants these from whoever includes it. */
#define mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define wmb() __atomic_thread_fence(__ATOMIC_RELEASE)
#define xen_mb() mb()
#define xen_rmb() rmb()
#define xen_wmb() wmb()
#include <xen/xen.h>
#include <xen/grant_table.h>
#include <xen/io/netif.h>

#define PAGE 4096u
#define RING 256u
#define GUEST 1
#define HOST 0
#define BATCH (128 * PAGE)	/* bytes of frames that wait to be sent, as in netfront */

static uint8_t *arena;		/* frames of a guest: grant table, ring, transmit */
static uint8_t *host;		/* the same frame numbers: staging */
static uint16_t *owner;
static struct gnttab_copy ops[2 * RING];
static uint16_t op_slot[2 * RING];
static uint16_t rsp_id[RING];
static int16_t rsp_status[RING];
static uint16_t ids[RING], pending[RING];
static unsigned nfree = RING;

enum { F_TABLE = 0, F_RING = 2, F_TX = 3, F_STAGE = F_TX + RING, FRAMES = F_STAGE + RING };

static uint8_t *pages(size_t count)
{
	void *made = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	if (made == MAP_FAILED)
		exit(1);
	return made;
}

static void grant_copy(unsigned n)
{
	grant_entry_v1_t *table = (void *)(arena + F_TABLE * PAGE);

	for (unsigned k = 0; k < n; k++) {
		struct gnttab_copy *op = &ops[k];
		grant_entry_v1_t *e;
		uint16_t flags;

		op->status = GNTST_okay;
		if (!op->len)
			continue;
		if (op->dest.domid != DOMID_SELF) {
			op->status = GNTST_permission_denied;
			continue;
		}
		if (op->source.domid != GUEST) {
			op->status = GNTST_bad_domain;
			continue;
		}
		if (op->source.u.ref >= 2 * PAGE / sizeof(*e)) {
			op->status = GNTST_bad_gntref;
			continue;
		}
		e = &table[op->source.u.ref];
		flags = __atomic_load_n(&e->flags, __ATOMIC_RELAXED);
		if ((flags & GTF_type_mask) != GTF_permit_access || e->domid != HOST) {
			op->status = GNTST_general_error;
			continue;
		}
		if (e->frame >= FRAMES || owner[e->frame] != GUEST ||
		    op->dest.u.gmfn >= FRAMES || owner[op->dest.u.gmfn] != HOST) {
			op->status = GNTST_bad_page;
			continue;
		}
		if (op->source.offset + op->len > PAGE || op->dest.offset + op->len > PAGE) {
			op->status = GNTST_bad_copy_arg;
			continue;
		}
		__atomic_store_n(&e->flags, flags | GTF_reading, __ATOMIC_RELAXED);
		memcpy(host + op->dest.u.gmfn * PAGE + op->dest.offset,
		       arena + (size_t)e->frame * PAGE + op->source.offset, op->len);
		__atomic_store_n(&e->flags, flags, __ATOMIC_RELEASE);
	}
}

/* What both ends set up before they are Connected. */
static void attach(void)
{
	grant_entry_v1_t *table = (void *)(arena + F_TABLE * PAGE);

	SHARED_RING_INIT((netif_tx_sring_t *)(arena + F_RING * PAGE));
	for (unsigned i = 0; i < RING; i++)
		table[8 + i].frame = F_TX + i;
}

/* Carry the first frames of a guest. Returns 0 if all arrived. */
static int carry(unsigned size, unsigned long frames, const uint8_t *batch, unsigned per_batch)
{
	netif_tx_front_ring_t front;
	netif_tx_back_ring_t back;
	grant_entry_v1_t *table = (void *)(arena + F_TABLE * PAGE);
	const uint8_t *frame;
	unsigned long sent = 0, got = 0, bytes = 0, events = 0;
	unsigned next = 0;

	FRONT_RING_INIT(&front, (netif_tx_sring_t *)(arena + F_RING * PAGE), PAGE);
	BACK_RING_INIT(&back, (netif_tx_sring_t *)(arena + F_RING * PAGE), PAGE);
	for (unsigned i = 0; i < RING; i++)
		ids[i] = i;

	while (got < frames) {
		int notify, more;

		/* Guest: transmit. */
		while (sent < frames) {
			unsigned chunks = (size + PAGE - 1) / PAGE, left = size, first = 1;

			if (chunks > nfree || chunks > RING_FREE_REQUESTS(&front))
				break;
			frame = batch + (size_t)size * next;
			next = next + 1 < per_batch ? next + 1 : 0;
			while (left) {
				unsigned chunk = left < PAGE ? left : PAGE, id = ids[--nfree];
				netif_tx_request_t *req =
					RING_GET_REQUEST(&front, front.req_prod_pvt);

				memcpy(arena + (F_TX + id) * (size_t)PAGE, frame + (size - left),
				       chunk);
				table[8 + id].domid = HOST;
				__atomic_store_n(&table[8 + id].flags,
						 GTF_permit_access | GTF_readonly, __ATOMIC_RELEASE);
				pending[id] = 1;
				left -= chunk;
				req->gref = 8 + id;
				req->offset = 0;
				req->flags = left ? NETTXF_more_data : 0;
				req->id = id;
				req->size = first ? size : chunk;
				first = 0;
				front.req_prod_pvt++;
			}
			sent++;
		}
		RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&front, notify);
		events += notify;

		/* Backend: gather, copy, settle. */
		if (back.sring->req_prod - back.req_cons > RING)
			return 3;
		unsigned avail = RING_HAS_UNCONSUMED_REQUESTS(&back), slot = 0, n = 0, used = 0;
		while (slot < avail) {
			netif_tx_request_t req[19];
			unsigned k = 0, total, rest;

			do {
				if (slot + k >= avail || k > 18)
					return 3;
				RING_COPY_REQUEST(&back, back.req_cons + slot + k, &req[k]);
			} while (req[k++].flags & NETTXF_more_data);
			total = rest = req[0].size;
			for (unsigned i = 1; i < k; i++) {
				if (req[i].size > rest)
					return 3;
				rest -= req[i].size;
			}
			req[0].size = rest;
			if (rest < 14)
				return 3;
			for (unsigned i = 0; i < k; i++) {
				unsigned at = req[i].offset, left = req[i].size;

				if (at + left > PAGE)
					return 3;
				rsp_id[slot + i] = req[i].id;
				rsp_status[slot + i] = NETIF_RSP_OKAY;
				while (left) {
					unsigned room = PAGE - used % PAGE;
					unsigned piece = left < room ? left : room;
					struct gnttab_copy *op = &ops[n];

					op->source.u.ref = req[i].gref;
					op->source.domid = GUEST;
					op->source.offset = at;
					op->dest.u.gmfn = F_STAGE + used / PAGE;
					op->dest.domid = DOMID_SELF;
					op->dest.offset = used % PAGE;
					op->len = piece;
					op->flags = GNTCOPY_source_gref;
					op_slot[n++] = slot + i;
					used += piece;
					at += piece;
					left -= piece;
				}
			}
			bytes += total;
			got++;
			slot += k;
		}
		grant_copy(n);
		for (unsigned k = 0; k < n; k++)
			if (ops[k].status)
				rsp_status[op_slot[k]] = NETIF_RSP_ERROR;
		for (unsigned k = 0; k < slot; k++) {
			netif_tx_response_t *rsp = RING_GET_RESPONSE(&back, back.rsp_prod_pvt);

			rsp->id = rsp_id[k];
			rsp->status = rsp_status[k];
			back.rsp_prod_pvt++;
		}
		back.req_cons += slot;
		RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&back, notify);
		events += notify;
		RING_FINAL_CHECK_FOR_REQUESTS(&back, more);

		/* Guest: reap. */
		if (RING_RESPONSE_PROD_OVERFLOW(&front, front.sring->rsp_prod))
			return 3;
		while (RING_HAS_UNCONSUMED_RESPONSES(&front)) {
			netif_tx_response_t rsp;

			RING_COPY_RESPONSE(&front, front.rsp_cons, &rsp);
			front.rsp_cons++;
			if (rsp.id >= RING || !pending[rsp.id] || rsp.status ||
			    (table[8 + rsp.id].flags & (GTF_reading | GTF_writing)))
				return 3;
			__atomic_store_n(&table[8 + rsp.id].flags, 0, __ATOMIC_RELEASE);
			pending[rsp.id] = 0;
			ids[nfree++] = rsp.id;
		}
		RING_FINAL_CHECK_FOR_RESPONSES(&front, more);
	}
	return bytes != frames * size || !events ? 4 : 0;
}

int main(int argc, char **argv)
{
	if (argc != 3 && argc != 4)
		return 2;
	unsigned size = atoi(argv[1]), guests = argc > 3 ? atoi(argv[3]) : 1, per_batch;
	unsigned long frames = strtoul(argv[2], NULL, 10);
	uint8_t *batch = malloc(BATCH), *all = pages((size_t)guests * F_STAGE);
	struct timespec a, b;

	host = pages(FRAMES);
	memset(host + F_STAGE * PAGE, 0, RING * PAGE);
	owner = calloc(FRAMES, sizeof(*owner));
	memset(batch, 0x5a, BATCH);
	per_batch = BATCH / size;
	if (per_batch > RING / ((size + PAGE - 1) / PAGE))
		per_batch = RING / ((size + PAGE - 1) / PAGE);
	for (unsigned f = 0; f < F_STAGE; f++)
		owner[f] = GUEST;
	if (argc == 3)
		memset(all, 0, F_STAGE * PAGE);
	for (unsigned guest = 0; guest < guests; guest++) {
		arena = all + (size_t)guest * F_STAGE * PAGE;
		attach();
	}

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	for (unsigned guest = 0; guest < guests; guest++) {
		int wrong;

		arena = all + (size_t)guest * F_STAGE * PAGE;
		wrong = carry(size, frames, batch, per_batch);
		if (wrong)
			return wrong;
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	printf("%.9f\n", (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9);
	return 0;
}
