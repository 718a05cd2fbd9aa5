"""``xennet info``: what is installed, what other packages add, and what a machine looks like by
default."""

from __future__ import annotations

import platform

import click

from xennet.cli.output import say, say_json

#: Name of the JSON layout; it gets a new number when a key changes its meaning or is removed.
FORMAT = "xennet-info/1"

_PACKAGES = ("xennet", "attrs", "click", "construct", "dpkt", "rich")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def info(as_json: bool) -> None:
    """Show versions, default arena, engine, and what other packages add."""
    from importlib.metadata import version

    from xennet.abi.xen import PAGE_SIZE
    from xennet.engine.choice import current
    from xennet.host.capacity import ONE_VIF
    from xennet.port.spec import PORTS
    from xennet.run.links import LINKS

    python = {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
    }
    packages = {package: version(package) for package in _PACKAGES}
    arena = {"frames": ONE_VIF.nr_frames, "page_size": PAGE_SIZE}
    # The numba version is part of the answer if kernels are compiled.
    name = current().name
    engine = {"name": name, "numba": version("numba") if name == "fast" else None}
    plugins = [f"port {plugin.name}, of {plugin.distribution}" for plugin in PORTS.plugins()]
    plugins += [f"link {plugin.name}, of {plugin.distribution}" for plugin in LINKS.plugins()]
    faults = [*PORTS.faults(), *LINKS.faults()]
    if as_json:
        about = {"python": python, "packages": packages, "arena": arena, "engine": engine}
        say_json({"format": FORMAT, **about, "plugins": plugins, "plugin_faults": faults})
        return
    mib = arena["frames"] * PAGE_SIZE >> 20
    rows = {
        "python": f"{python['version']} ({python['implementation']})",
        **packages,
        "arena": f"{arena['frames']} frames of {PAGE_SIZE} bytes ({mib} MiB)",
        "engine": f"{name} (numba {engine['numba']})" if engine["numba"] else name,
    }
    for row, value in rows.items():
        say(f"{row:<10} {value}")
    for kind, lines in (("plugin", plugins), ("not used", faults)):
        for line in lines:
            say(f"{kind:<10} {line}")
