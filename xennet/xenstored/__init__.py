"""xenstored's part of domain 0: the store, the guests' rings to it, and a socket for other
programs."""
