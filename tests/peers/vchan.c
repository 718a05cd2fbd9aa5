/* Both ends of a libxenvchan, each a process of a domain: vchan server|client PEER PATH BYTES RING.
 * The server sends BYTES bytes whose values follow from their place, the client says goodbye. With
 * "abort" behind it a client ends in the middle, without a word. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <libxenvchan.h>

static unsigned char byte_at(size_t place) { return place * 7 + (place >> 8) + (place >> 16); }

int main(int argc, char **argv) {
    static unsigned char data[65536];
    int serves = !strcmp(argv[1], "server"), peer = atoi(argv[2]);
    size_t all = strtoul(argv[4], NULL, 0), ring = strtoul(argv[5], NULL, 0), done = 0;
    int aborts = argc > 6;
    struct libxenvchan *v;
    if (serves) v = libxenvchan_server_init(NULL, peer, argv[3], ring, ring);
    else while (!(v = libxenvchan_client_init(NULL, peer, argv[3]))) usleep(5000);
    if (!v) { perror("server"); return 1; }
    v->blocking = 1;
    while (done < all) {
        size_t want = all - done < sizeof data ? all - done : sizeof data;
        if (serves) for (size_t i = 0; i < want; i++) data[i] = byte_at(done + i);
        int n = serves ? libxenvchan_write(v, data, want) : libxenvchan_read(v, data, want);
        if (n <= 0) { printf("%zu of %zu bytes, then %d\n", done, all, n); return 2; }
        if (!serves) for (int i = 0; i < n; i++)
            if (data[i] != byte_at(done + i)) { printf("byte %zu is wrong\n", done + i); return 3; }
        done += n;
        if (aborts && done > all / 2) _exit(4);
    }
    if (serves) {
        if (libxenvchan_recv(v, data, 8) != 8 || memcmp(data, "goodbye", 8)) return 5;
    } else if (libxenvchan_send(v, "goodbye", 8) != 8) return 6;
    libxenvchan_close(v);
    printf("%zu bytes\n", done);
    return 0;
}
