"""FreeBSD's epair: two Ethernet interfaces, back to back (sys/net/if_epair.c)."""
