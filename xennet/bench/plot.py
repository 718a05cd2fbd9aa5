"""The figures as one picture for docs/performance.md."""

from __future__ import annotations

from pathlib import Path

from xennet.bench.figures import Json
from xennet.bench.markdown import ways

#: The ways, slowest first, with a colour for each kind of way.
_BARS = {
    "vif, plain": "#7aa6c2",
    "kernels, plain": "#a9c6d8",
    "SEQPACKET": "#9a9a9a",
    "vif, compiled": "#2f6f9f",
    "kernels, compiled": "#12456b",
    "C limit": "#c2773b",
}


def draw(results: Json, target: Path) -> None:
    """Write an SVG of frames per second, by frame size and way, on a logarithmic axis."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "xennet"  # equal figures make equal files
    from matplotlib import pyplot

    sizes = list(results["seqpacket"])
    figure, panels = pyplot.subplots(1, len(sizes), figsize=(11, 3.2), sharey=True, squeeze=False)
    for panel, size in zip(panels[0], sizes, strict=True):
        figures = ways(results, size)
        names = [name for name in _BARS if name in figures]
        rates = [figures[name]["frames_s"] for name in names]
        bars = panel.barh(names, rates, color=[_BARS[name] for name in names])
        labels = [f"{rate / 1e6:.2f} M" if rate < 1e7 else f"{rate / 1e6:.0f} M" for rate in rates]
        panel.bar_label(bars, labels, padding=3, fontsize=8)
        panel.set_xscale("log")
        panel.set_xlim(3e4, 1e9)
        panel.set_title(f"{size}-byte frames", fontsize=10)
        panel.set_xlabel("frames per second", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})
    pyplot.close(figure)
