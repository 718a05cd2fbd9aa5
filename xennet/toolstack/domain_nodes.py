"""The XenStore nodes that the toolstack writes for a PV domain before its devices.

Three transactions, in libxl's order: the skeleton (libxl__domain_make), the nodes that need the
built domain (libxl__build_post), and the console. Owners and permissions are libxl's: the guest
owns only what it has to write.
"""

from __future__ import annotations

from attrs import frozen

from xennet.toolstack.nodelist import Clear, Node
from xennet.xenstore.path import domain_path


@frozen
class DomainConfig:
    """A domain as ``xl`` is told about it.

    Sizes are in KiB, ``*_gfn`` are frame numbers of ring pages, ``*_port`` event channels,
    ``start_time`` is seconds as text.
    """

    domid: int
    name: str
    uuid: str = "00000000-0000-4000-8000-000000000000"
    memory_kib: int = 262144
    kernel: str = "vmlinuz"
    ramdisk: str = "initrd.img"
    cmdline: str = "console=hvc0"
    start_time: str = "0.00"
    store_gfn: int = 1
    store_port: int = 1
    console_gfn: int = 2
    console_port: int = 2

    @property
    def path(self) -> str:
        """/local/domain/N."""
        return domain_path(self.domid)

    @property
    def vm(self) -> str:
        """/vm/UUID."""
        return f"/vm/{self.uuid}"

    @property
    def libxl(self) -> str:
        """/libxl/N."""
        return f"/libxl/{self.domid}"


def skeleton_nodes(config: DomainConfig) -> list[Node | Clear]:
    """The first transaction: directories, names, and nodes that the guest may write."""
    guest_reads = ("n0", f"r{config.domid}")
    guest_owns = (f"n{config.domid}",)
    dom, vm, libxl = config.path, config.vm, config.libxl
    control = ("shutdown", "feature-poweroff", "feature-reboot", "feature-suspend", "sysrq")
    return [
        Clear(dom),
        Node(dom, "", guest_reads),
        Clear(vm),
        Node(vm, "", guest_reads),
        Clear(libxl),
        Node(libxl, "", ("n0",)),
        Node(f"{libxl}/device", "", ("n0",)),
        Node(f"{dom}/vm", vm),
        Node(f"{dom}/name", config.name),
        Node(f"{vm}/name", config.name),
        *(Node(f"{dom}/{name}", "", guest_reads) for name in ("cpu", "memory", "device")),
        Node(f"{dom}/device/suspend/event-channel", "", guest_owns),
        Node(f"{dom}/control", "", guest_reads),
        *(Node(f"{dom}/control/{name}", "", guest_owns) for name in control),
        *(
            Node(f"{dom}/{name}", "", guest_owns)
            for name in ("data", "drivers", "feature", "attr", "error")
        ),
        Node(f"{vm}/uuid", config.uuid),
        Node(f"{vm}/name", config.name),
        Node(f"{dom}/control/platform-feature-multiprocessor-suspend", "1"),
        Node(f"{dom}/control/platform-feature-xs_reset_watches", "1"),
        Node(f"{libxl}/type", "pv"),
    ]


def build_nodes(config: DomainConfig) -> list[Node | Clear]:
    """The second transaction: nodes that need the domain's memory and its store ring."""
    dom, vm = config.path, config.vm
    return [
        Node(f"{dom}/memory/static-max", str(config.memory_kib)),
        Node(f"{dom}/memory/target", str(config.memory_kib)),
        Node(f"{dom}/memory/videoram", "0"),
        Node(f"{dom}/domid", str(config.domid)),
        Node(f"{dom}/store/port", str(config.store_port)),
        Node(f"{dom}/store/ring-ref", str(config.store_gfn)),
        Node(f"{dom}/cpu/0/availability", "online"),
        Node(f"{vm}/image/ostype", "linux"),
        Node(f"{vm}/image/kernel", config.kernel),
        Node(f"{vm}/start_time", config.start_time),
        Node(f"{vm}/image/ramdisk", config.ramdisk),
        Node(f"{vm}/image/cmdline", config.cmdline),
    ]


def console_paths(domid: int) -> tuple[str, str, str]:
    """The frontend's, the backend's and the toolstack's directory of a domain's primary console."""
    return (
        f"{domain_path(domid)}/console",
        f"{domain_path(0)}/backend/console/{domid}/0",
        f"/libxl/{domid}/device/console/0",
    )


def console_nodes(config: DomainConfig) -> list[Node | Clear]:
    """The third transaction: the primary console, which stays in state 1."""
    frontend, backend, libxl = console_paths(config.domid)
    read_only = ("n0", f"r{config.domid}")
    entries = [
        ("limit", "1048576"),
        ("type", "xenconsoled"),
        ("output", "pty"),
        ("tty", ""),
        ("port", str(config.console_port)),
        ("ring-ref", str(config.console_gfn)),
    ]
    shared = [
        ("frontend-id", str(config.domid)),
        ("online", "1"),
        ("state", "1"),
        ("protocol", "vt100"),
    ]
    return [
        Clear(libxl),
        Node(f"{libxl}/frontend", frontend),
        Node(f"{libxl}/backend", backend),
        Clear(frontend),
        Node(frontend, None, read_only),
        Node(f"{frontend}/backend", backend),
        Node(f"{frontend}/backend-id", "0", (f"n{config.domid}", "r0")),
        *(Node(f"{frontend}/{name}", value, read_only) for name, value in entries),
        Clear(backend),
        Node(backend, None, read_only),
        Node(f"{backend}/frontend", frontend),
        *(Node(f"{backend}/{name}", value) for name, value in shared),
        *(Node(f"{libxl}/{name}", value) for name, value in shared),
    ]
