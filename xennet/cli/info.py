"""``xennet info``: what is installed and what a machine looks like by default."""

from __future__ import annotations

import platform

import click

from xennet import __version__

_PACKAGES = ("attrs", "click", "construct", "dpkt", "rich")


@click.command()
def info() -> None:
    """Show versions, default arena and engine."""
    from importlib.metadata import version

    rows = [("python", f"{platform.python_version()} ({platform.python_implementation()})")]
    rows += [("xennet", __version__)]
    rows += [(package, version(package)) for package in _PACKAGES]
    rows += [("arena", _arena()), ("engine", _engine())]
    for name, value in rows:
        click.echo(f"{name:<10} {value}")


def _engine() -> str:
    """Which way kernels run here; the numba version is part of the answer if they are compiled."""
    from importlib.metadata import version

    from xennet.engine import current

    name = current().name
    return f"{name} (numba {version('numba')})" if name == "fast" else name


def _arena() -> str:
    """The default of the class itself, so that it cannot be told wrongly."""
    from inspect import signature

    from xennet.abi.xen import PAGE_SIZE
    from xennet.memory import Memory

    frames = signature(Memory).parameters["nr_frames"].default
    return f"{frames} frames of {PAGE_SIZE} bytes ({frames * PAGE_SIZE >> 20} MiB)"
