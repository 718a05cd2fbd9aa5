/* A library whose constructor polls, selects and waits for events: before those of libraries that are
 * preloaded are called. */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <unistd.h>

int early = -1;
static void __attribute__((constructor)) begin(void) {
    struct timeval none = { 0, 0 };
    struct epoll_event event;
    int set = epoll_create1(0);
    early = poll(NULL, 0, 0) + select(0, NULL, NULL, NULL, &none) + epoll_wait(set, &event, 1, 0);
    close(set);
}
