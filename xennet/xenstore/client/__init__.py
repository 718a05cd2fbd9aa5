"""Clients of a XenStore: in the process, over a socket, over a ring page."""
