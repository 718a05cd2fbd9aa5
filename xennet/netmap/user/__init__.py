"""The other side of the device: what libnetmap and netmap_user.h are to programs."""
