/* Stands in for the few hypervisor calls of the C xenstored, so that it serves its socket on a machine
 * without Xen. Domains 0 to 6 exist. Built by real_xenstored.inc; has no part in what is shown. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

static int handle, event[2];

/* The kernel's files for domain 0's ring: /proc/xen/xsd_kva is a page, xsd_port holds a port number. */
int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = flags & O_CREAT ? va_arg(more, int) : 0, pair[2], page;
    va_end(more);
    if (!strcmp(path, "/proc/xen/xsd_kva"))
        return (page = memfd_create("ring", 0)) >= 0 && !ftruncate(page, 4096) ? page : -1;
    if (!strcmp(path, "/proc/xen/xsd_port"))
        return pipe(pair) || write(pair[1], "1", 1) != 1 || close(pair[1]) ? -1 : pair[0];
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
xc_interface *xc_interface_open(xentoollog_logger *a, xentoollog_logger *b, unsigned c) { return (void *)&handle; }
int xc_domain_getinfo(xc_interface *x, uint32_t first, unsigned most, xc_dominfo_t *info) {
    memset(info, 0, sizeof *info);
    info->domid = first;
    return first <= 6 ? 1 : (errno = ESRCH, 0);
}
xengnttab_handle *xengnttab_open(xentoollog_logger *a, unsigned b) { return (void *)&handle; }
int xengnttab_set_max_grants(xengnttab_handle *a, uint32_t b) { return 0; }
xenevtchn_handle *xenevtchn_open(xentoollog_logger *a, unsigned b) { return pipe(event) ? NULL : (void *)&handle; }
int xenevtchn_fd(xenevtchn_handle *a) { return event[0]; }
xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *a, unsigned b) { return 1; }
xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *a, uint32_t b, evtchn_port_t c) { return 2; }
int xenevtchn_notify(xenevtchn_handle *a, evtchn_port_t b) { return 0; }
