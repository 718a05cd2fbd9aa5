/* What a program may do to the library that is preloaded into it. argv[1] says what; the exit code
 * is 0 if all was as it is without that library, else the line. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(is) do { if (!(is)) _exit(__LINE__ & 0xff); } while (0)
#define PACING 47 /* SO_MAX_PACING_RATE: of a device file that is polled */

static volatile int armed, polled_fd = -1, holding;
static sem_t held, go_on;

/* The library asks it with its locks held. */
int getsockopt(int fd, int level, int name, void *value, socklen_t *size) {
    static int (*real)(int, int, int, void *, socklen_t *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "getsockopt");
    if (armed) { armed = 0; raise(SIGUSR1); }
    if (fd == polled_fd && name == PACING) { *(uint64_t *)value = 0x6e65746d6170; return 0; }
    if (fd == polled_fd && name == SO_COOKIE && holding) { holding = 0; sem_post(&held); sem_wait(&go_on); }
    return real(fd, level, name, value, size);
}

extern int early; /* what a library's constructor got, 0 */

/* The end of a socket that is no device file. */
static void end_of_socket(void) {
    int ends[2];
    char byte;
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    close(ends[1]);
    errno = 123;
    CHECK(read(ends[0], &byte, 1) == 0 && errno == 123);
}

/* A signal whose handler opens a device while its thread does. */
static volatile int handled;
static void handler(int number) {
    int saved = errno;
    (void)number;
    handled = 1 + !access("/dev/xen/evtchn", R_OK);
    errno = saved;
}
static void signals(void) {
    CHECK(!access("/dev/xen/evtchn", R_OK));
    CHECK(signal(SIGUSR1, handler) != SIG_ERR);
    armed = 1;
    errno = 123;
    CHECK(!access("/dev/xen/evtchn", R_OK));
    CHECK(!armed && handled == 2 && errno == 123);
    sigset_t now;
    CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &now) && !sigismember(&now, SIGUSR1) && !sigismember(&now, SIGTERM));
}

/* A child of a process, one thread of which is in epoll_ctl. */
static void *adds(void *set) {
    struct epoll_event event = { .events = EPOLLIN };
    epoll_ctl((int)(intptr_t)set, EPOLL_CTL_MOD, polled_fd, &event);
    return NULL;
}
static void forks(void) {
    int ends[2], status, set = epoll_create1(0);
    struct epoll_event event = { .events = EPOLLIN };
    pthread_t thread;
    CHECK(set >= 0 && !socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    polled_fd = ends[0];
    CHECK(!epoll_ctl(set, EPOLL_CTL_ADD, polled_fd, &event));
    sem_init(&held, 0, 0);
    sem_init(&go_on, 0, 0);
    holding = 1;
    CHECK(!pthread_create(&thread, NULL, adds, (void *)(intptr_t)set));
    CHECK(!sem_wait(&held));
    pid_t child = fork();
    if (!child) {
        alarm(60);
        _exit(epoll_create1(0) < 0);
    }
    sem_post(&go_on);
    CHECK(waitpid(child, &status, 0) == child && !status && !pthread_join(thread, NULL));
}

int main(int argc, char **argv) {
    alarm(60);
    CHECK(argc > 1);
    if (!strcmp(argv[1], "early")) CHECK(!early);
    if (!strcmp(argv[1], "end")) end_of_socket();
    if (!strcmp(argv[1], "signals")) signals();
    if (!strcmp(argv[1], "forks")) forks();
    return 0;
}
