/* The Xen side of a stock C xenstored, for machines without a hypervisor (loaded with LD_PRELOAD).
 *
 * xenstored asks the hypervisor three things: which domains exist, what is in their XenStore ring
 * pages, and event channels. Here the process that started it answers, through three descriptors
 * whose numbers are in the environment:
 *
 *   XENSHIM_DOMAINS  file, one byte for each domid: the STATE_ bits below, 0 = no such domain
 *   XENSHIM_RINGS    sparse file, the page at domid * 4096 is the domain's ring page
 *   XENSHIM_EVENTS   SOCK_SEQPACKET: the starter sends a u32 local port when it fires; the daemon's
 *                    own doings go the other way as records of four u32: REPORT_ code and arguments
 *
 * Local port 1 is VIRQ_DOM_EXC, those bound to domains count from 2. Only what xenstored imports is
 * here. Names beginning with xc_, xengnttab_ and xenevtchn_ are Xen's, see its public headers.
 */
#define _GNU_SOURCE
#define XC_WANT_COMPAT_MAP_FOREIGN_API 1
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

enum { PAGE = 4096, VIRQ_PORT = 1, FIRST_DOMAIN_PORT = 2 };
enum { STATE_EXISTS = 1, STATE_SHUTDOWN = 2, STATE_CRASHED = 4, STATE_DYING = 8 };
enum { REPORT_BOUND = 1, REPORT_UNBOUND = 2, REPORT_NOTIFIED = 3, REPORT_HANDLED = 4 };

static char handle; /* its address stands for every handle */

static int descriptor(const char *name)
{
    const char *text = getenv(name);
    return text ? atoi(text) : -1;
}

static void report(uint32_t code, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t record[4] = { code, a, b, c };
    /* A starter that does not listen must not stop the daemon. */
    (void)!send(descriptor("XENSHIM_EVENTS"), record, sizeof record, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static unsigned domain_state(uint32_t domid)
{
    unsigned char state = 0;
    if (pread(descriptor("XENSHIM_DOMAINS"), &state, 1, domid) != 1)
        return 0;
    return state;
}

/* ---- libxenctrl ---- */

xc_interface *xc_interface_open(xentoollog_logger *log, xentoollog_logger *dom, unsigned flags)
{
    return (xc_interface *)&handle;
}

int xc_interface_close(xc_interface *xch)
{
    return 0;
}

#ifdef GETINFO_SINGLE /* since Xen 4.18 */
int xc_domain_getinfo_single(xc_interface *xch, uint32_t domid, xc_domaininfo_t *info)
{
    unsigned state = domain_state(domid);

    if (!(state & STATE_EXISTS)) {
        errno = ESRCH;
        return -1;
    }
    memset(info, 0, sizeof *info);
    info->domain = domid;
    if (state & STATE_SHUTDOWN)
        info->flags |= XEN_DOMINF_shutdown;
    if (state & STATE_CRASHED)
        info->flags |= XEN_DOMINF_shutdown | (SHUTDOWN_crash << XEN_DOMINF_shutdownshift);
    if (state & STATE_DYING)
        info->flags |= XEN_DOMINF_dying;
    return 0;
}
#else
int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned int max, xc_dominfo_t *info)
{
    unsigned state = domain_state(first);

    if (!(state & STATE_EXISTS) || max == 0) {
        errno = ESRCH;
        return 0;
    }
    memset(info, 0, sizeof *info);
    info->domid = first;
    info->shutdown = (state & STATE_SHUTDOWN) != 0;
    info->crashed = (state & STATE_CRASHED) != 0;
    info->dying = (state & STATE_DYING) != 0;
    return 1;
}
#endif

/* ---- libxengnttab: any reference of a domain is its ring page ---- */

xengnttab_handle *xengnttab_open(xentoollog_logger *log, unsigned flags)
{
    return (xengnttab_handle *)&handle;
}

int xengnttab_close(xengnttab_handle *xgt)
{
    return 0;
}

int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t count)
{
    return 0;
}

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int prot)
{
    void *page;

    if (!(domain_state(domid) & STATE_EXISTS)) {
        errno = EINVAL;
        return NULL;
    }
    page = mmap(NULL, PAGE, prot, MAP_SHARED, descriptor("XENSHIM_RINGS"), (off_t)domid * PAGE);
    return page == MAP_FAILED ? NULL : page;
}

int xengnttab_unmap(xengnttab_handle *xgt, void *start, uint32_t count)
{
    return munmap(start, (size_t)count * PAGE);
}

/* ---- libxenevtchn ---- */

xenevtchn_handle *xenevtchn_open(xentoollog_logger *log, unsigned flags)
{
    return (xenevtchn_handle *)&handle;
}

xenevtchn_handle *xenevtchn_fdopen(xentoollog_logger *log, int fd, unsigned flags)
{
    return (xenevtchn_handle *)&handle;
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
    return descriptor("XENSHIM_EVENTS");
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned int virq)
{
    return VIRQ_PORT;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid,
                                                     evtchn_port_t remote_port)
{
    static uint32_t next = FIRST_DOMAIN_PORT;

    report(REPORT_BOUND, next, domid, remote_port);
    return (int)next++;
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
    report(REPORT_UNBOUND, port, 0, 0);
    return 0;
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
    report(REPORT_NOTIFIED, port, 0, 0);
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    uint32_t port;

    if (recv(descriptor("XENSHIM_EVENTS"), &port, sizeof port, 0) != sizeof port)
        return -1;
    return (int)port;
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
    report(REPORT_HANDLED, port, 0, 0);
    return 0;
}

/* ---- domain 0 finds its own ring page and port in /proc/xen ---- */

int open(const char *path, int flags, ...)
{
    static int (*real_open)(const char *, int, ...);
    int mode = 0;

    if (flags & O_CREAT) {
        va_list arguments;

        va_start(arguments, flags);
        mode = va_arg(arguments, int);
        va_end(arguments);
    }
    if (strcmp(path, "/proc/xen/xsd_kva") == 0)
        return dup(descriptor("XENSHIM_RINGS"));
    if (strcmp(path, "/proc/xen/xsd_port") == 0) {
        int ends[2];

        if (pipe(ends) != 0)
            return -1;
        (void)!write(ends[1], "1", 1);
        close(ends[1]);
        return ends[0];
    }
    if (!real_open)
        *(void **)&real_open = dlsym(RTLD_NEXT, "open");
    return real_open(path, flags, mode);
}
