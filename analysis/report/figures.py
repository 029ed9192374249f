"""The figures of the report: SVG that stands inside one page with others."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from markupsafe import Markup

from analysis.evidence.evidence import Evidence
from analysis.evidence.side_by_side import side_by_side
from analysis.figures import draw as figures
from repro.errors import UserError
from repro.harness.experiments.experiment import Experiment


def drawn(experiments: Sequence[Experiment], evidence: Evidence) -> dict[str, Markup]:
    """The figures by experiment, without those that have no runs.

    They are most of the time that the report takes, so every core draws its share.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save = [partial(figures.save, one, evidence, ["svg"], folder) for one in experiments]
        paths = [
            path for made in side_by_side([partial(_if_any, s) for s in save]) for path in made
        ]
        return {path.stem: inlined(path.read_text(encoding="utf-8"), path.stem) for path in paths}


def _if_any(save: Callable[[], list[Path]]) -> list[Path]:
    with suppress(UserError):  # no finished run to draw
        return save()
    return []


def inlined(svg: str, name: str) -> Markup:
    """Without what a page has already, ids unique, coordinates to a hundredth of a point.

    Its style sheet would apply to the whole page: the two rules in it are inherited instead.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(?<= )(?:d|x|y)="[^"]*"', lambda match: _rounded(match[0]), svg)
    label = f'role="img" aria-labelledby="{name}-caption" class="drawn"'
    inherited = 'stroke-linejoin="round" stroke-linecap="butt"'
    return Markup(svg.replace("<svg", f"<svg {label} {inherited}", 1))  # noqa: S704  our own file


def _rounded(attribute: str) -> str:
    short = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", attribute)
    return " ".join(short.split())
