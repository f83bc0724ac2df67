"""The resolution report's picture: three panels over the size, a line for each method."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours of Okabe and Ito (2008), which the colour-blind tell apart; signs, for lines that overlap.
STYLES = {
    "inr": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "bicubic": {"color": "#E69F00", "marker": "s", "linestyle": "--"},
    "lanczos": {"color": "#009E73", "marker": "^", "linestyle": ":"},
}
TITLES = {
    "frechet": "whole images (lower is better)",
    "patch_frechet": "patches of the native size (lower is better)",
    "cross_scale_psnr": "consistency across scales (higher is better)",
}


def png(report: dict) -> bytes:
    """The plot of what `report_workdir` returns, as the bytes of a PNG file."""
    figure = Figure(figsize=(15, 5), layout="constrained")
    panels = figure.subplots(1, len(TITLES))
    for axes, key in zip(panels, TITLES, strict=True):
        _draw(axes, report, key)
    figure.suptitle(
        f"{report['checkpoint']}: {report['images']:,} images, "
        f"{report['reference']['used']:,} real ones of {report['reference']['source']}"
    )
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _draw(axes: Axes, report: dict, key: str) -> None:
    results, native = report["results"], report["native_size"]
    sides = sorted({max(result["size"]) for result in results})
    for method, style in STYLES.items():
        of = [result for result in results if result["method"] == method]
        values = [float("nan") if r[key] is None else r[key] for r in of]  # breaks the line
        axes.plot([max(r["size"]) for r in of], values, label=method, markersize=7, **style)
    axes.set_title(TITLES[key], fontsize=11)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sides, [str(side) for side in sides])
    axes.set_xlim(min(sides[0], max(native)) / 1.2, max(sides[-1], max(native)) * 1.2)
    axes.minorticks_off()
    axes.set_xlabel("longer side, pixels")
    axes.set_ylabel(report["names"][key])
    axes.grid(alpha=0.3)
    axes.axvline(max(native), color="0.5", linewidth=1, zorder=0)
    said = f" native {native[0]}x{native[1]}" + ", exact" * (key == "cross_scale_psnr")
    axes.annotate(said, (max(native), 0.98), xycoords=("data", "axes fraction"), va="top")
    low, high = axes.get_ylim()
    axes.set_ylim(low if key == "cross_scale_psnr" else 0, high + (high - low) / 8)  # for the note
    if key == "patch_frechet" and all(result[key] is None for result in results):
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "none: needs real images larger than native\n(--reference)", ha="center",
            transform=axes.transAxes, backgroundcolor="white",
        )  # fmt: skip
