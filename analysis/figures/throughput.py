"""Figure 5: accuracy against the throughput of networks with smaller and smaller patches.

Machines and data differ between the paper's runs and ours, so either has a panel of its own; the
accuracy has one range. Either number of ours has its interval, since throughput varies, too.
"""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from analysis.evidence.evidence import Evidence
from analysis.figures.cost import Pair, draw_joined, handle_of, title
from analysis.figures.marks import legend, same_range
from analysis.figures.metrics import axis_label
from analysis.figures.style import looks, panels, say
from repro.harness.experiments.experiment import Experiment


def draw_throughput(experiment: Experiment, evidence: Evidence) -> Figure:
    """Figure 5: k-NN against images per second, one curve an architecture."""
    figure, grid = panels(1, 2, height=3.2)
    pair = Pair(experiment, experiment.metric("im_s"), experiment.metric("knn"))
    names = list(dict.fromkeys(str(row.described["arch"]) for row in experiment.rows))
    styles = looks(names)
    drawn = set()
    for axes, is_paper in zip(grid[0], (True, False), strict=True):
        curves = []
        for name in names:
            # Small words below the first line and above the others, clear of one another.
            offset, side = ((-7, -9), "right") if name == names[0] else ((6, 7), "left")
            rows = [r for r in evidence.rows(experiment) if r.row.described["arch"] == name]
            curve = draw_joined(axes, pair, rows, styles[name], evidence, is_paper)
            curves.append(curve)
            drawn |= {name} if curve.points else set()
            for row in rows:
                if row.name in curve.points:
                    patch = row.row.described["patch"]
                    if not is_paper:
                        patch = row.config().model.patch_size
                    say(axes, f"patch {patch}", curve.points[row.name], offset, side)
        axes.set(xscale="log", xlabel=axis_label(pair.cost))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.3, y=0.16)
        axes.set_title(title(evidence, is_paper, curves))
    left = grid[0, 0]
    left.set_title(f"paper, read off to ± {pair.score.reading_error:g} points")
    left.set_ylabel(f"{axis_label(pair.score)}")
    same_range(list(grid.flat), upright=True)
    legend(figure, [handle_of(styles[name], name) for name in names if name in drawn])
    return figure
