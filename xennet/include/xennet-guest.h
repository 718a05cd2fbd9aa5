/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A Linux process as the kernel of a domain of an emulated Xen machine.
 *
 * For kernels and unikernels, whose drivers call the hypervisor themselves: the hypercalls that a
 * network driver needs, under their usual names, and what a domain finds when it starts: its start
 * info, its shared-info page, its store ring, the frames of its grant table, memory of the machine.
 * Structures and numbers are those of Xen's public headers, which this file includes (Debian:
 * libxen-dev). docs/foreign.md says what is emulated and what is not.
 *
 *   cc -I$(xennet exec --include) driver.c $(xennet exec --include)/xennet-guest.c -o driver
 *   xennet exec --domain 1 -- ./driver
 *
 * Functions return 0, a number, or a negative errno, as hypercalls do. One thread at a time.
 */
#ifndef XENNET_GUEST_H
#define XENNET_GUEST_H

#include <errno.h> /* before xs_wire.h, whose table of errors needs it */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef __x86_64__
#error "the machine's shared-info page is that of 64-bit x86"
#endif
#ifndef __XEN_INTERFACE_VERSION__
#define __XEN_INTERFACE_VERSION__ 0x00040d00
#endif
#include <xen/xen.h>
#if __XEN_INTERFACE_VERSION__ < 0x00040d00
#error "include xennet-guest.h before Xen's headers"
#endif
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/version.h>
#include <xen/io/xs_wire.h>

#define XENNET_PAGE_SIZE 4096UL
#define XENNET_NO_FRAME (~(xen_pfn_t)0)

/* What xen/io/ring.h orders its accesses with: the other end is another process. */
#define xen_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define xen_rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define xen_wmb() __atomic_thread_fence(__ATOMIC_RELEASE)

/* -- start ------------------------------------------------------------------------------------- */

/* Become the kernel of the domain in which this process runs. -ENOENT: it was not started by
 * `xennet exec`; -EBUSY: the domain has a kernel already; -EPERM: it is domain 0, or another one
 * whose kernel is xennet's. What follows here may be used after it returned 0.
 *
 * A process that ends without SCHEDOP_shutdown is a kernel that crashed (SHUTDOWN_crash). */
int xennet_guest_start(void);

extern start_info_t xennet_start_info;
extern shared_info_t *HYPERVISOR_shared_info;
/* The ring page of the store; its port is xennet_start_info.store_evtchn. */
extern struct xenstore_domain_interface *xennet_store_ring;

/* -- hypercalls -------------------------------------------------------------------------------- */

/* GNTTABOP_*. A page that GNTTABOP_map_grant_ref maps with GNTMAP_host_map appears at host_addr
 * (rounded down to a page), over whatever was there; GNTTABOP_unmap_grant_ref leaves a page there
 * that cannot be accessed. */
int HYPERVISOR_grant_table_op(unsigned int cmd, void *uop, unsigned int count);
int HYPERVISOR_event_channel_op(int cmd, void *arg);
/* XENMEM_increase_reservation, _populate_physmap, _decrease_reservation, _current_reservation,
 * _maximum_reservation. Frames that it returns are seen by xennet_map_frames(). */
long HYPERVISOR_memory_op(unsigned int cmd, void *arg);
int HYPERVISOR_xen_version(int cmd, void *arg);
/* SCHEDOP_yield, _block, _poll, _shutdown. The first three deliver upcalls before they return. The
 * last one ends the process; its exit status is the reason. */
int HYPERVISOR_sched_op(int cmd, void *arg);

/* -- upcalls ----------------------------------------------------------------------------------- */

/* Nothing interrupts the program: there is no signal and no second thread, so a driver needs no
 * locks and may call anything from its upcall. An upcall is delivered where the program asks for
 * it: in HYPERVISOR_sched_op() and in xennet_deliver(). The function is called as Xen calls a PV
 * kernel's: if evtchn_upcall_pending is set and evtchn_upcall_mask is not; the mask is set
 * meanwhile, and the function clears evtchn_upcall_pending. It is called again as long as that is
 * set afterwards. */
void xennet_set_upcall(void (*upcall)(void));

/* Becomes readable when there is an upcall to deliver, for programs that wait for other things too:
 * poll() it with them, then call xennet_deliver(). Do not read it. */
int xennet_upcall_fd(void);

/* Deliver upcalls now, if there are any. Does not wait. Returns the number of calls. */
int xennet_deliver(void);

/* What an upcall usually does: takes the pending ports of vCPU 0 that are not masked (2-level ABI)
 * and calls handler(port) for each. */
void xennet_take_ports(void (*handler)(evtchn_port_t port));

void xennet_mask_port(evtchn_port_t port);
void xennet_clear_port(evtchn_port_t port);
/* EVTCHNOP_unmask: an event that waited makes an upcall. */
int xennet_unmask_port(evtchn_port_t port);

/* The clock of SCHEDOP_poll's timeout, in ns. */
uint64_t xennet_system_time(void);

/* -- memory ------------------------------------------------------------------------------------ */

/* The first nr_frames frames of the domain's own grant table (GNTTABOP_setup_table), version 1, for
 * the program to write; always at the same address. NULL with errno. */
grant_entry_v1_t *xennet_grant_table(unsigned int nr_frames);

/* Zeroed pages of the machine, one behind the other in the program's memory. NULL: there are none
 * left. What is to be granted, or named in GNTTABOP_copy, has to be such memory. */
void *xennet_alloc_pages(unsigned int nr_pages);
void xennet_free_pages(void *pages, unsigned int nr_pages);

/* The frame of a page that xennet_alloc_pages() returned; XENNET_NO_FRAME for any other address. */
xen_pfn_t xennet_virt_to_frame(const void *address);

/* Frames that the domain may access, one behind the other. NULL with errno. */
void *xennet_map_frames(const xen_pfn_t *frames, unsigned int nr_frames);
int xennet_unmap_frames(void *address, unsigned int nr_frames);

#endif
