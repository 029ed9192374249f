"""The figures of the report: SVG that stands inside one page with others."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from markupsafe import Markup

from analysis import figures
from analysis.frame import Evidence
from repro.errors import UserError
from repro.harness.spec import Experiment


def drawn(experiment: Experiment, evidence: Evidence) -> Markup | None:
    """The experiment's figure; None where it has no finished run."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            (path,) = figures.save(experiment, evidence, ["svg"], Path(folder))
        except UserError:
            return None
        return inlined(path.read_text(encoding="utf-8"), experiment.id)


def drawn_parity(evidence: Evidence) -> Markup | None:
    """All accuracies, reported against measured; None where nothing has been measured."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            (path,) = figures.save_parity(evidence, ["svg"], Path(folder))
        except UserError:
            return None
        return inlined(path.read_text(encoding="utf-8"), figures.PARITY)


def inlined(svg: str, name: str) -> Markup:
    """Without what a page has already, ids unique, coordinates to a hundredth of a point.

    Its style sheet would apply to the whole page: the two rules in it are inherited instead.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(?<= )(?:d|x|y)="[^"]*"', lambda found: _rounded(found[0]), svg)
    label = f'role="img" aria-labelledby="{name}-caption" class="drawn"'
    inherited = 'stroke-linejoin="round" stroke-linecap="butt"'
    return Markup(svg.replace("<svg", f"<svg {label} {inherited}", 1))  # noqa: S704  our own file


def _rounded(attribute: str) -> str:
    short = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", attribute)
    return " ".join(short.split())
