"""Figure 5: accuracy against the throughput of networks with smaller and smaller patches.

Machines and data differ between the paper's runs and ours, so either has a panel of its own.
"""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from analysis.evidence.evidence import Evidence
from analysis.figures.cost import draw_joined, handle_of, marks, mean_of, points_of
from analysis.figures.style import looks, ours, panels, say
from repro.harness.experiments.experiment import Experiment


def draw_throughput(experiment: Experiment, evidence: Evidence) -> Figure:
    """Figure 5: k-NN against images per second, one curve an architecture."""
    figure, grid = panels(1, 2, height=3.2)
    left, right = grid[0]
    speed, score = experiment.metric("im_s"), experiment.metric("knn")
    names = list(dict.fromkeys(str(row.described["arch"]) for row in experiment.rows))
    styles = looks(names)
    drawn = set()
    for name in names:
        # Small words below the first line and above the others, clear of one another.
        offset, side = ((-6, -8), "right") if name == names[0] else ((6, 7), "left")
        rows = {
            row.name: row for row in evidence.rows(experiment) if row.row.described["arch"] == name
        }
        for axes, is_paper in ((left, True), (right, False)):
            points = points_of(rows.values(), speed, score, is_paper)
            drawn |= {name} if points else set()
            draw_joined(axes, points, styles[name])
            for row_name, pairs in points.items():
                row = rows[row_name]
                patch = row.row.described["patch"]
                if not is_paper:
                    patch = row.config().model.patch_size
                say(axes, f"patch {patch}", mean_of(pairs), offset, side)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="throughput (images/s)")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.3, y=0.16)
    left.set(title=f"paper, read off to ± {score.reading_error:g} points", ylabel="k-NN top-1 (%)")
    right.set(title=ours(evidence))
    handles = [handle_of(styles[name], name) for name in names if name in drawn]
    figure.legend(handles=[*handles, *marks()], loc="outside lower center", ncols=4)
    return figure
