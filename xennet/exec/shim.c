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
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define MAX_EXTENTS 4096
#ifndef MAX_RANGES
#define MAX_RANGES 8192
#endif
#define HOLE UINT64_MAX
/* What is only open to be found is out of the way of programs that count on low numbers. */
#define HIGH_FD 700

enum { OP_OPEN = 1, OP_ACCESS, OP_IOCTL, OP_MMAP, OP_MUNMAP, OP_EMPTY_READ, OP_POLL = 8, OP_WAKER };
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
    sigset_t signals; /* of the thread that has the lock, before it had it */
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
static pthread_mutex_t epoll_lock = PTHREAD_MUTEX_INITIALIZER;
static void child(void) {
    epoll_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER; /* a thread that is not here may have had it */
    if (inherited >= 0 && cookie_of(inherited) == inherited_cookie) syscall(SYS_close, inherited);
    inherited = -1;
}

/* Where it is asked for, a program ends with the one that started it, by whatever means that ended:
 * a child says so when it begins, and again when it runs another program. */
static void tie(void) { if (getenv("XENNET_EXEC_TIED")) prctl(PR_SET_PDEATHSIG, SIGKILL); }
static void __attribute__((constructor)) tie_to_parent(void) { tie(); pthread_atfork(NULL, NULL, tie); }

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
/* Signals wait meanwhile: a handler may call read, open and poll, and would find its own thread's lock. */
static void lock(void) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&me->lock);
    me->signals = before;
}
static void unlock(void) {
    sigset_t before = me->signals;
    pthread_mutex_unlock(&me->lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

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

/* Without room all ranges become one. What one holds beyond pages of the machine costs questions of
 * the server, which knows what is mapped, and nothing else. */
static void remember(uintptr_t lo, uintptr_t hi) {
    if (!me->lowest || lo < me->lowest) me->lowest = lo;
    if (hi > me->highest) me->highest = hi;
    if (me->ranges == MAX_RANGES) { me->ranges = 0; lo = me->lowest; hi = me->highest; }
    me->range[me->ranges++] = (struct range){ lo, hi };
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
        /* Without room for both rests it stays whole. */
        if (old.lo < from && to < old.hi && me->ranges == MAX_RANGES) { i++; continue; }
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
        ssize_t n;
        /* NIOCCTRL, a kernel loop: netmap's is not ended by a signal */
        do n = syscall(SYS_recvmsg, more, &m, 0); while (n < 0 && errno == EINTR && _IOC_TYPE(cmd) == 'i');
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
        int pages = -1, error = ask(&q, NULL, 0, &a, &pages);
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
        int saved = errno;
        lock();
        int error = ask(&q, NULL, 0, &a, &none);
        unlock();
        if (error == EAGAIN) continue; /* it was reset meanwhile */
        if (error && error != EIO && error != ENOTTY) { errno = error; return -1; }
        errno = saved; /* the end of a file, or of a socket that is no device (ENOTTY) */
        return 0;
    }
}

/* poll and its like. netmap's device files have to be synced then, so the server is asked (OP_POLL);
 * a thread for which nothing is ready sleeps on a socket of its own, its waker. */
#define POLLED 0x6e65746d6170UL /* by this SO_MAX_PACING_RATE they are known */
static int polled(int fd) {
    uint64_t rate = 0;
    socklen_t size = sizeof rate;
    int saved = errno, rc = getsockopt(fd, SOL_SOCKET, 47, &rate, &size);
    errno = saved;
    return !rc && size == sizeof rate && rate == POLLED;
}

static __thread struct { int fd; uint64_t cookie, process; } waker = { -1, 0, 0 };
static pthread_key_t leaving;
static void leave(void *unused) {
    (void)unused;
    if (waker.fd >= 0 && cookie_of(waker.fd) == waker.cookie) syscall(SYS_close, waker.fd);
    waker.fd = -1;
}
static pthread_once_t waker_once = PTHREAD_ONCE_INIT;
static void waker_start(void) { pthread_key_create(&leaving, leave); }

/* The thread's waker, whose socket is made when it is first needed, and anew in a child. With the lock
 * held. Returns its cookie, 0 if there is none. */
static uint64_t the_waker(void) {
    if (connection() < 0) return 0;
    if (waker.fd >= 0 && waker.process == me->cookie && cookie_of(waker.fd) == waker.cookie) return waker.cookie;
    struct request q = { OP_WAKER, 0, 0, { 0 } };
    struct answer a;
    int fd;
    if (waker.fd >= 0 && cookie_of(waker.fd) == waker.cookie) syscall(SYS_close, waker.fd);
    waker.fd = -1;
    if (ask(&q, NULL, 0, &a, &fd) || fd < 0) return 0;
    int up = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    if (up >= 0) { syscall(SYS_close, fd); fd = up; }
    waker.fd = fd;
    waker.cookie = cookie_of(fd);
    waker.process = me->cookie;
    pthread_once(&waker_once, waker_start);
    pthread_setspecific(leaving, &waker);
    return waker.cookie;
}

/* What is so of events on a device file; if nothing is and the caller waits, its waker is told. */
static short ask_poll(int fd, short events, int waits) {
    struct answer a;
    int none;
    lock();
    struct request q = { OP_POLL, (uint16_t)events, cookie_of(fd), { waits ? the_waker() : 0 } };
    int error = ask(&q, NULL, 0, &a, &none);
    unlock();
    return error ? POLLERR : (short)a.result;
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int (*real_ppoll)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
static int (*real_pselect)(int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *);
static int (*real_epoll_pwait)(int, struct epoll_event *, int, int, const sigset_t *);
static void __attribute__((constructor)) find_polls(void) {
    *(void **)&real_ppoll = dlsym(RTLD_NEXT, "ppoll");
    *(void **)&real_pselect = dlsym(RTLD_NEXT, "pselect");
    *(void **)&real_epoll_pwait = dlsym(RTLD_NEXT, "epoll_pwait");
}
/* The C library's function. A constructor of another library may be called before the one here. */
#define REAL(name) (real_##name ? real_##name : (find_polls(), real_##name))

/* ppoll with devices of fds[] among the n. timeout in ns, negative for none. */
static int poll_devices(struct pollfd *fds, nfds_t n, int64_t timeout, const sigset_t *mask) {
    struct pollfd few[16], *others = n < 16 ? few : malloc((n + 1) * sizeof *others);
    int64_t end = timeout < 0 ? -1 : now() + timeout;
    int result = -1, wait = timeout != 0;
    nfds_t devices = 0;
    if (!others) return -1;
    for (nfds_t i = 0; i < n; i++) {
        others[i] = fds[i];
        if (fds[i].fd >= 0 && polled(fds[i].fd)) { others[i].fd = -1; devices++; }
    }
    for (;;) {
        int ready = 0;
        for (nfds_t i = 0; i < n; i++) {
            if (others[i].fd >= 0 || fds[i].fd < 0) continue;
            fds[i].revents = ask_poll(fds[i].fd, fds[i].events, wait && !ready);
            ready += fds[i].revents != 0;
        }
        int rc = 0;
        others[n] = (struct pollfd){ -1, POLLIN, 0 };
        if (!ready || devices < n) {
            int64_t left = ready || !wait ? 0 : end < 0 ? -1 : end - now();
            if (left < 0 && end >= 0) left = 0;
            struct timespec t = { left / 1000000000, left % 1000000000 };
            /* Without a waker (the server is gone, or has no descriptors left) it looks now and then. */
            if (left) others[n].fd = waker.fd;
            if (left && waker.fd < 0 && (left < 0 || left > 10000000)) t = (struct timespec){ 0, 10000000 }, left = 1;
            rc = REAL(ppoll)(others, n + 1, left < 0 ? NULL : &t, mask);
            if (rc < 0) goto out;
            if (others[n].fd >= 0 && others[n].revents) {
                char byte[64];
                rc--;
                if (others[n].revents & ~POLLIN) waker.fd = -1; /* the server is gone */
                else while (syscall(SYS_recvfrom, waker.fd, byte, sizeof byte, MSG_DONTWAIT, NULL, NULL) > 0) ;
            }
        }
        for (nfds_t i = 0; i < n; i++) if (others[i].fd >= 0 || fds[i].fd < 0) fds[i].revents = others[i].revents;
        result = rc + ready;
        if (result || !wait) break;
        if (end >= 0 && now() >= end) wait = 0; /* a last look, for what came at the same time */
    }
out:
    if (others != few) { int saved = errno; free(others); errno = saved; }
    return result;
}

static int has_device(const struct pollfd *fds, nfds_t n) {
    if (!emulated()) return 0;
    for (nfds_t i = 0; i < n; i++) if (fds[i].fd >= 0 && polled(fds[i].fd)) return 1;
    return 0;
}
static int64_t in_ns(const struct timespec *t) {
    if (!t) return -1;
    return t->tv_sec > 9000000000 ? -1 : t->tv_sec * 1000000000LL + t->tv_nsec;
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask) {
    return has_device(fds, n) ? poll_devices(fds, n, in_ns(timeout), mask) : REAL(ppoll)(fds, n, timeout, mask);
}
int poll(struct pollfd *fds, nfds_t n, int timeout) {
    if (has_device(fds, n)) return poll_devices(fds, n, timeout < 0 ? -1 : timeout * 1000000LL, NULL);
    struct timespec t = { timeout / 1000, timeout % 1000 * 1000000L };
    return REAL(ppoll)(fds, n, timeout < 0 ? NULL : &t, NULL);
}
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size) {
    if (size / sizeof *fds < n) abort();
    return poll(fds, n, timeout);
}
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t size) {
    if (size / sizeof *fds < n) abort();
    return ppoll(fds, n, timeout, mask);
}

/* select of sets with a device is a poll. */
static int select_devices(int n, fd_set *sets[3], int64_t timeout, const sigset_t *mask) {
    static const short asked[] = { POLLIN | POLLRDNORM | POLLRDBAND, POLLOUT | POLLWRNORM | POLLWRBAND, POLLPRI };
    static const short told[] = { POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR, POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR, POLLPRI };
    struct pollfd fds[FD_SETSIZE];
    nfds_t used = 0;
    for (int fd = 0; fd < n; fd++) {
        struct pollfd p = { fd, 0, 0 };
        for (int i = 0; i < 3; i++) if (sets[i] && FD_ISSET(fd, sets[i])) p.events |= asked[i];
        if (p.events) fds[used++] = p;
    }
    int rc = poll_devices(fds, used, timeout, mask);
    if (rc < 0) return -1;
    for (nfds_t i = 0; i < used; i++) if (fds[i].revents & POLLNVAL) { errno = EBADF; return -1; }
    rc = 0;
    for (nfds_t i = 0; i < used; i++)
        for (int k = 0; k < 3; k++)
            if (sets[k] && FD_ISSET(fds[i].fd, sets[k])) {
                if (fds[i].revents & told[k]) rc++;
                else FD_CLR(fds[i].fd, sets[k]);
            }
    return rc;
}
static int selects_device(int n, fd_set *sets[3]) {
    if (n <= 0 || n > FD_SETSIZE || !emulated()) return 0;
    for (int fd = 0; fd < n; fd++)
        for (int i = 0; i < 3; i++)
            if (sets[i] && FD_ISSET(fd, sets[i]) && polled(fd)) return 1;
    return 0;
}
int pselect(int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout, const sigset_t *mask) {
    fd_set *sets[] = { r, w, e };
    if (selects_device(n, sets)) return select_devices(n, sets, in_ns(timeout), mask);
    return REAL(pselect)(n, r, w, e, timeout, mask);
}
int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout) {
    fd_set *sets[] = { r, w, e };
    int64_t before = 0;
    struct timespec t = { 0, 0 };
    if (timeout) {
        if (timeout->tv_sec < 0 || timeout->tv_usec < 0) { errno = EINVAL; return -1; }
        t = (struct timespec){ timeout->tv_sec + timeout->tv_usec / 1000000, timeout->tv_usec % 1000000 * 1000 };
        before = now();
    }
    int rc = selects_device(n, sets) ? select_devices(n, sets, timeout ? in_ns(&t) : -1, NULL)
                                     : REAL(pselect)(n, r, w, e, timeout ? &t : NULL, NULL);
    if (timeout) { /* Linux tells how much of it is left */
        int64_t left = in_ns(&t) - (now() - before);
        if (left < 0) left = in_ns(&t) < 0 ? in_ns(&t) : 0;
        *timeout = (struct timeval){ left / 1000000000, left % 1000000000 / 1000 };
    }
    return rc;
}

/* epoll: device files are in a table here and not in the kernel's set. It is level-triggered for them. */
#define MAX_EPOLLED 256
static struct epolled { int set, fd; uint64_t cookie; struct epoll_event event; } epolled[MAX_EPOLLED];
static unsigned epolleds;

/* Forget the entries of a set, or (-1) those whose descriptor is closed. */
static void drop_epolled(int set) {
    for (unsigned i = 0; i < epolleds; )
        if (epolled[i].set == set || (set < 0 && cookie_of(epolled[i].fd) != epolled[i].cookie)) epolled[i] = epolled[--epolleds];
        else i++;
}
static int new_set(int set) { /* the number of one that was closed, perhaps */
    if (set < 0 || !emulated()) return set;
    pthread_mutex_lock(&epoll_lock);
    drop_epolled(set);
    pthread_mutex_unlock(&epoll_lock);
    return set;
}
int epoll_create(int size) { return size <= 0 ? (errno = EINVAL, -1) : new_set((int)syscall(SYS_epoll_create1, 0)); }
int epoll_create1(int flags) { return new_set((int)syscall(SYS_epoll_create1, flags)); }

int epoll_ctl(int set, int op, int fd, struct epoll_event *event) {
    if (!emulated() || !polled(fd)) return (int)syscall(SYS_epoll_ctl, set, op, fd, event);
    if (op != EPOLL_CTL_DEL && !event) { errno = EFAULT; return -1; }
    int error = 0;
    unsigned i = 0;
    pthread_mutex_lock(&epoll_lock);
    drop_epolled(-1);
    while (i < epolleds && (epolled[i].set != set || epolled[i].fd != fd)) i++;
    if (op == EPOLL_CTL_ADD) {
        if (i < epolleds) error = EEXIST;
        else if (epolleds == MAX_EPOLLED) error = ENOSPC;
        else epolled[epolleds++] = (struct epolled){ set, fd, cookie_of(fd), *event };
    } else if (i == epolleds) error = ENOENT;
    else if (op == EPOLL_CTL_MOD) epolled[i].event = *event;
    else epolled[i] = epolled[--epolleds];
    pthread_mutex_unlock(&epoll_lock);
    if (error) { errno = error; return -1; }
    return 0;
}

int epoll_pwait(int set, struct epoll_event *events, int most, int timeout, const sigset_t *mask) {
    struct pollfd fds[MAX_EPOLLED + 1];
    struct epoll_event told[MAX_EPOLLED + 1];
    nfds_t n = 1;
    if (epolleds) {
        pthread_mutex_lock(&epoll_lock);
        drop_epolled(-1);
        for (unsigned i = 0; i < epolleds; i++)
            if (epolled[i].set == set && epolled[i].event.events) {
                told[n] = epolled[i].event;
                fds[n++] = (struct pollfd){ epolled[i].fd, (short)(epolled[i].event.events & 0x7fff), 0 };
            }
        pthread_mutex_unlock(&epoll_lock);
    }
    if (n == 1 || most <= 0) return REAL(epoll_pwait)(set, events, most, timeout, mask);
    fds[0] = (struct pollfd){ set, POLLIN, 0 };
    int found = 0, rc = poll_devices(fds, n, timeout < 0 ? -1 : timeout * 1000000LL, mask);
    if (rc <= 0) return rc;
    for (nfds_t i = 1; i < n && found < most; i++) {
        if (!fds[i].revents) continue;
        events[found] = told[i];
        events[found++].events = (uint16_t)fds[i].revents;
        if (told[i].events & EPOLLONESHOT) {
            pthread_mutex_lock(&epoll_lock);
            for (unsigned k = 0; k < epolleds; k++)
                if (epolled[k].set == set && epolled[k].fd == fds[i].fd) epolled[k].event.events = 0;
            pthread_mutex_unlock(&epoll_lock);
        }
    }
    if (fds[0].revents && found < most) {
        rc = REAL(epoll_pwait)(set, events + found, most - found, 0, mask);
        if (rc > 0) found += rc;
    }
    return found;
}
int epoll_wait(int set, struct epoll_event *events, int most, int timeout) { return epoll_pwait(set, events, most, timeout, NULL); }
