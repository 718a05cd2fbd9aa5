"""Records of the real kernel module, played on the device: docs/netmap.md has the form."""
