"""Grant tables: the bytes that domains share with the hypervisor, and what both sides do with them.

``guest`` is the granting side, ``hypercalls`` the hypervisor's operations, ``copy`` the kernel of
GNTTABOP_copy, ``entry`` the steps that map and copy share, ``directory`` where each domain's table
lies.
"""
