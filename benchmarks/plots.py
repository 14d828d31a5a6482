"""The plots of the report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .measuring import Table

__all__ = ["draw"]


def draw(tables: Iterable[Table], folder: Path) -> dict[str, str]:
    """Draw every table that has points, as SVG, and return the pictures' paths relative to the folder's parent.

    Args:
        tables: The results.
        folder: Where the pictures go; it is made when missing.
    """
    try:
        import matplotlib as mpl
    except ImportError:  # the extra `bench` brings it
        return {}
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "profile-spawner"  # the same numbers give the same file
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for table in tables:
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in table.rows:
            for name, point in row.points.items():
                lines.setdefault(name, []).append(point)
        if not lines:
            continue
        figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
        for name, points in lines.items():
            axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel=table.axes[0], ylabel=table.axes[1], title=table.title)
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(frameon=False)
        path = folder / f"performance-{table.name}.svg"
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        paths[table.name] = f"{folder.name}/{path.name}"
    return paths
