"""One function for many items, in this process, in several, or on the machines of a cluster."""
