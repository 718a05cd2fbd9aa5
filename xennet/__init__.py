"""xennet: the Xen paravirtual network, byte for byte, in an ordinary Python process."""
