"""TAP interfaces of Linux as ports: frames of a real network stack, with their offloads."""
