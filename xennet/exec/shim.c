/* Preloaded into a program: its device files of Xen are those of an emulated machine.
 *
 * A device file is one end of a socketpair that the machine's server made, so read, write, poll,
 * epoll, dup, fork, passing and close need nothing here. Which device a descriptor is, the server
 * knows by the socket's SO_COOKIE. open, ioctl, mmap and munmap are asked of the server over one
 * SEQPACKET connection a process (xennet/exec/messages.py). An ioctl's argument is sent from where the
 * program has it and received into it, so the kernel says EFAULT where it would for a device.
 *
 * What a process knows lies in pages that fork() empties (MADV_WIPEONFORK): a child connects anew. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define PAGE 4096UL
#define MAX_EXTENTS 4096
#define MAX_RANGES 8192
#define HOLE UINT64_MAX
/* What is only open to be found is out of the way of programs that count on low numbers. */
#define HIGH_FD 700

enum { OP_OPEN = 1, OP_ACCESS, OP_IOCTL, OP_MMAP, OP_MUNMAP, OP_EMPTY_READ };
/* Flags of an answer. */
enum { MAPS = 1, DONT_FORK = 2, LATER = 4 };
/* Flags of OP_IOCTL: the argument could not be read. */
enum { UNREADABLE = 1 };

struct request { uint32_t op, arg; uint64_t cookie, a[4]; };
struct answer { int32_t error; uint32_t flags; int64_t result; uint64_t address; uint32_t prot, extents; };
/* pages consecutive pages of the descriptor that came along, from page first on. */
struct extent { uint64_t first, pages; };
struct range { uintptr_t lo, hi; };

static struct process {
    pthread_mutex_t lock;
    int up, control;
    uint64_t cookie; /* of the control connection */
    struct range range[MAX_RANGES];
    unsigned ranges;
    uintptr_t lowest, highest;
    struct extent extent[MAX_EXTENTS];
} *me;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *server;

static uint64_t cookie_of(int fd) {
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    int saved = errno;
    if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) < 0) cookie = 0;
    errno = saved;
    return cookie;
}

/* The parent's connection, which a child has no use for. */
static int inherited = -1;
static uint64_t inherited_cookie;
static void child(void) {
    if (inherited >= 0 && cookie_of(inherited) == inherited_cookie) syscall(SYS_close, inherited);
    inherited = -1;
}

static void start(void) {
    const char *path = getenv("XENNET_EXEC");
    if (!path || strlen(path) >= sizeof ((struct sockaddr_un *)0)->sun_path) return;
    size_t size = (sizeof *me + PAGE - 1) & ~(PAGE - 1);
    void *at = (void *)syscall(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
    if (at == MAP_FAILED || madvise(at, size, MADV_WIPEONFORK)) return;
    pthread_atfork(NULL, NULL, child);
    server = strdup(path);
    me = at;
}
static int emulated(void) { pthread_once(&once, start); return me != NULL; }
static void lock(void) { pthread_mutex_lock(&me->lock); }
static void unlock(void) { pthread_mutex_unlock(&me->lock); }

/* One message into parts. *fd is the descriptor that came along, -1 if none did. Not a point where a
 * thread is cancelled. Returns its size, -1 with errno. */
static ssize_t receive(int s, struct iovec *parts, int nr, int *fd) {
    char space[CMSG_SPACE(sizeof(int))];
    struct msghdr m = { .msg_iov = parts, .msg_iovlen = nr, .msg_control = space, .msg_controllen = sizeof space };
    ssize_t n;
    do n = syscall(SYS_recvmsg, s, &m, MSG_CMSG_CLOEXEC); while (n < 0 && errno == EINTR);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    *fd = -1;
    if (c && c->cmsg_type == SCM_RIGHTS) memcpy(fd, CMSG_DATA(c), sizeof *fd);
    return n;
}

/* The process's connection, made when it is first needed. Programs close descriptors that they do
 * not know, and use the number again: so it is looked at. */
static int connection(void) {
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    if (me->up && cookie_of(me->control) == me->cookie) return me->control;
    me->up = 0;
    strcpy(a.sun_path, server);
    int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), up;
    if (s < 0) return -1;
    if ((up = fcntl(s, F_DUPFD_CLOEXEC, HIGH_FD)) >= 0) { syscall(SYS_close, s); s = up; }
    int rc;
    do rc = connect(s, (void *)&a, sizeof a); while (rc < 0 && errno == EINTR);
    if (rc < 0) { syscall(SYS_close, s); return -1; }
    inherited = me->control = s;
    inherited_cookie = me->cookie = cookie_of(s);
    me->up = 1;
    return s;
}

/* Ask, with size bytes at data behind the request, which the answer may change. With the lock held.
 * Returns the error, 0 if there is none; *fd as receive(). */
static int ask(struct request *q, void *data, size_t size, struct answer *r, int *fd) {
    struct iovec parts[] = { { q, sizeof *q }, { data, size } };
    struct msghdr m = { .msg_iov = parts, .msg_iovlen = size ? 2 : 1 };
    int s, again = 1;
    ssize_t n;
    *fd = -1;
    while ((s = connection()) >= 0) {
        n = syscall(SYS_sendmsg, s, &m, MSG_NOSIGNAL);
        if (n >= 0) break;
        if (errno == EINTR) continue;
        if (errno == EFAULT && m.msg_iovlen == 2) { m.msg_iovlen = 1; q->a[1] |= UNREADABLE; continue; }
        me->up = 0;
        if (!again--) return EIO;
    }
    if (s < 0) return EIO;
    /* Where nothing could be read nothing is received, and the answer is not left unread. */
    struct iovec back[] = { { r, sizeof *r }, { data, size }, { me->extent, sizeof me->extent } };
    if (m.msg_iovlen == 1) back[1] = (struct iovec){ NULL, 0 };
    n = receive(s, back, 3, fd);
    if (n < 0 && errno == EFAULT) return EFAULT;
    if (n < (ssize_t)sizeof *r) { me->up = 0; syscall(SYS_close, s); return EIO; }
    return r->error;
}

static void remember(uintptr_t lo, uintptr_t hi) {
    me->range[me->ranges++] = (struct range){ lo, hi };
    if (!me->lowest || lo < me->lowest) me->lowest = lo;
    if (hi > me->highest) me->highest = hi;
}

/* Whether [lo, hi) may have pages of the machine. */
static int ours(uintptr_t lo, uintptr_t hi) { return me && hi > me->lowest && lo < me->highest; }

/* Tell the server that the pages of [lo, hi) are no longer there; with the lock held. */
static void forget(uintptr_t lo, uintptr_t hi) {
    for (unsigned i = 0; i < me->ranges; ) {
        struct range *r = &me->range[i], old = *r;
        if (hi <= r->lo || lo >= r->hi) { i++; continue; }
        uintptr_t from = lo > r->lo ? lo : r->lo, to = hi < r->hi ? hi : r->hi;
        struct request q = { OP_MUNMAP, 0, 0, { from, to - from } };
        struct answer a;
        int fd;
        ask(&q, NULL, 0, &a, &fd);
        *r = me->range[--me->ranges];
        if (old.lo < from) remember(old.lo, from);
        if (to < old.hi) remember(to, old.hi);
    }
}

/* Map what the answer says from fd. Returns the error. */
static int show(struct answer *a, int fd) {
    char *at = (char *)a->address;
    for (uint32_t i = 0; i < a->extents && i < MAX_EXTENTS; i++) {
        struct extent *e = &me->extent[i];
        size_t size = e->pages * PAGE;
        if (e->first != HOLE) {
            if (syscall(SYS_mmap, at, size, a->prot, MAP_SHARED | MAP_FIXED, fd, e->first * PAGE) != (long)at) return ENOMEM;
            if (a->flags & DONT_FORK) madvise(at, size, MADV_DONTFORK);
        }
        at += size;
    }
    return 0;
}

static int is_device(const char *path) {
    static const char *const begins[] = { "/dev/xen/", "/proc/xen/", "/dev/netmap" };
    for (unsigned i = 0; path && i < sizeof begins / sizeof *begins; i++)
        if (!strncmp(path, begins[i], strlen(begins[i]))) return emulated();
    return 0;
}

static int ask_path(int op, const char *path, int flags, int *fd) {
    struct request q = { op, flags, 0, { 0 } };
    struct answer a;
    char copy[256] = { 0 };
    if (strlen(path) >= sizeof copy) { errno = ENOENT; return -1; }
    strcpy(copy, path);
    lock();
    int error = ask(&q, copy, strlen(path), &a, fd);
    unlock();
    if (error) { errno = error; return -1; }
    return 0;
}

static int do_open(int dir, const char *path, int flags, mode_t mode) {
    int fd;
    if (!is_device(path)) return (int)syscall(SYS_openat, dir, path, flags, mode);
    if (ask_path(OP_OPEN, path, flags, &fd) < 0) return -1;
    if (fd < 0) { errno = EMFILE; return -1; }
    if (!(flags & O_CLOEXEC)) fcntl(fd, F_SETFD, 0);
    if (flags & O_NONBLOCK) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}
#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list v; va_start(v, flags); mode = va_arg(v, int); va_end(v); }
int open(const char *path, int flags, ...) { MODE(flags) return do_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return do_open(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags) return do_open(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags) return do_open(dir, path, flags | O_LARGEFILE, mode); }
int __open_2(const char *path, int flags) { return do_open(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return do_open(AT_FDCWD, path, flags | O_LARGEFILE, 0); }
int __openat_2(int dir, const char *path, int flags) { return do_open(dir, path, flags, 0); }
int __openat64_2(int dir, const char *path, int flags) { return do_open(dir, path, flags | O_LARGEFILE, 0); }

/* libxenstore asks before it opens. */
static int exists(const char *path) { int fd; return ask_path(OP_ACCESS, path, 0, &fd); }
int access(const char *path, int mode) { return is_device(path) ? exists(path) : (int)syscall(SYS_faccessat, AT_FDCWD, path, mode); }
static int do_stat(const char *path, struct stat *st, int flags) {
    if (!is_device(path)) return fstatat(AT_FDCWD, path, st, flags);
    if (exists(path) < 0) return -1;
    memset(st, 0, sizeof *st);
    st->st_mode = S_IFCHR | 0600;
    return 0;
}
_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one layout");
int stat(const char *path, struct stat *st) { return do_stat(path, st, 0); }
int stat64(const char *path, struct stat64 *st) { return do_stat(path, (struct stat *)st, 0); }
int lstat(const char *path, struct stat *st) { return do_stat(path, st, AT_SYMLINK_NOFOLLOW); }
int lstat64(const char *path, struct stat64 *st) { return do_stat(path, (struct stat *)st, AT_SYMLINK_NOFOLLOW); }
int __xstat(int ver, const char *path, struct stat *st) { (void)ver; return do_stat(path, st, 0); }
int __xstat64(int ver, const char *path, struct stat64 *st) { (void)ver; return do_stat(path, (struct stat *)st, 0); }

/* The ioctls of devices: Xen's 'G', 'E' and 'P', netmap's 'i', and 'X'. */
static int forwarded(unsigned long cmd) { return _IOC_TYPE(cmd) && strchr("GEPiX", (int)_IOC_TYPE(cmd)) != NULL; }

int ioctl(int fd, unsigned long cmd, ...) {
    va_list v;
    va_start(v, cmd);
    unsigned long arg = va_arg(v, unsigned long);
    va_end(v);
    uint64_t cookie;
    if (!forwarded(cmd) || !emulated() || !(cookie = cookie_of(fd))) return (int)syscall(SYS_ioctl, fd, cmd, arg);
    /* IOCTL_EVTCHN_RESET forgets what was not read. */
    char unread[4096];
    if (cmd == _IOC(_IOC_NONE, 'E', 5, 0)) while (syscall(SYS_recvfrom, fd, unread, sizeof unread, MSG_DONTWAIT, NULL, NULL) > 0) ;
    struct request q = { OP_IOCTL, (uint32_t)cmd, cookie, { arg } };
    struct answer a;
    int more;
    lock();
    int error = ask(&q, (void *)arg, _IOC_SIZE(cmd), &a, &more);
    if (!error && a.flags & MAPS) error = show(&a, more); /* privcmd: at an address of the program's */
    unlock();
    if (!error && a.flags & LATER) { /* the answer comes there; a signal gives the wait up */
        struct iovec parts[] = { { &a, sizeof a }, { (void *)arg, _IOC_SIZE(cmd) } };
        struct msghdr m = { .msg_iov = parts, .msg_iovlen = 2 };
        ssize_t n = syscall(SYS_recvmsg, more, &m, 0);
        error = n < 0 ? errno : n < (ssize_t)sizeof a ? EIO : a.error;
    }
    if (more >= 0) syscall(SYS_close, more);
    if (error) { errno = error; return -1; }
    return (int)a.result;
}

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off) {
    uint64_t cookie = 0;
    int device = fd >= 0 && !(flags & MAP_ANONYMOUS) && emulated() && (cookie = cookie_of(fd)) != 0;
    int over = flags & MAP_FIXED && ours((uintptr_t)addr, (uintptr_t)addr + len);
    if (!device && !over) return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, off);
    size_t whole = (len + PAGE - 1) & ~(PAGE - 1);
    lock();
    void *base = (void *)(device
        ? syscall(SYS_mmap, addr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)), -1, 0L)
        : syscall(SYS_mmap, addr, len, prot, flags, fd, off));
    if (base != MAP_FAILED && over) forget((uintptr_t)base, (uintptr_t)base + whole);
    if (base != MAP_FAILED && device) {
        struct request q = { OP_MMAP, (uint32_t)prot, cookie, { (uint64_t)base, whole, (uint64_t)off, (uint64_t)flags } };
        struct answer a;
        int pages = -1, error = me->ranges < MAX_RANGES - 2 ? ask(&q, NULL, 0, &a, &pages) : ENOMEM;
        if (!error) {
            remember((uintptr_t)base, (uintptr_t)base + whole);
            error = show(&a, pages);
        }
        if (pages >= 0) syscall(SYS_close, pages);
        if (error) {
            syscall(SYS_munmap, base, whole);
            forget((uintptr_t)base, (uintptr_t)base + whole);
            errno = error;
            base = MAP_FAILED;
        }
    }
    unlock();
    return base;
}
void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t off) { return mmap(addr, len, prot, flags, fd, off); }

int munmap(void *addr, size_t len) {
    uintptr_t lo = (uintptr_t)addr, hi = lo + ((len + PAGE - 1) & ~(PAGE - 1));
    if (!ours(lo, hi)) return (int)syscall(SYS_munmap, addr, len);
    lock();
    int rc = (int)syscall(SYS_munmap, addr, len); /* first: the frames may get another owner then */
    int saved = errno;
    if (!rc) forget(lo, hi);
    unlock();
    errno = saved;
    return rc;
}

/* An empty message is evtchn's word for an overflow of its ring. The C library's own function is
 * called, because a thread can be cancelled in it. */
static ssize_t (*real_read)(int, void *, size_t);
static void __attribute__((constructor)) find(void) { *(void **)&real_read = dlsym(RTLD_NEXT, "read"); }
ssize_t read(int fd, void *data, size_t size) {
    for (;;) {
        ssize_t n = real_read ? real_read(fd, data, size) : syscall(SYS_read, fd, data, size);
        uint64_t cookie;
        if (n || !size || !me || !(cookie = cookie_of(fd))) return n;
        struct request q = { OP_EMPTY_READ, 0, cookie, { 0 } };
        struct answer a;
        int none;
        lock();
        int error = ask(&q, NULL, 0, &a, &none);
        unlock();
        if (error == EAGAIN) continue; /* it was reset meanwhile */
        if (error == EIO || !error) return 0;
        errno = error;
        return -1;
    }
}
