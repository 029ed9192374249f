"""The report: one self-contained HTML page of everything, for a reader who wants to believe it.

Scorecard first, then every experiment with table, figure, claims, cost and provenance; every
measured cell opens to its runs. Made from the records alone, without network and without torch; the
same records give the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from analysis.evidence.evidence import Evidence
from analysis.explain import Explainer
from analysis.figures.scorecard import MARKS
from analysis.report.cells import embedded, panels
from analysis.report.data import (
    all_runs,
    anchors,
    cost_of,
    count,
    coverage,
    own_sections_of,
    sections_of,
)
from analysis.report.figures import drawn
from analysis.tables.formats import TEMPLATES, html_templates
from repro.errors import UserError
from repro.files import replace_text
from repro.harness.experiments.folders import results_dir
from repro.harness.experiments.paper import read_paper

STYLES = ("report.css", "report_panel.css")
SCRIPTS = ("report.js", "report_panel.js")


def write(evidence: Evidence, out: str = "") -> Path:
    """Write the page and return its path, results/report/<scale>.html by default.

    Raises:
        UserError: `out` is a folder.
    """
    path = Path(out) if out else results_dir() / "report" / f"{evidence.scale}.html"
    if path.is_dir():
        raise UserError(f"--out {out}: a folder; name the file, e.g. {path / 'report.html'}")
    page = render(evidence)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, page)
    return path


def render(evidence: Evidence) -> str:
    """The page as text."""
    explainer = Explainer(evidence)
    sections, own = sections_of(evidence), own_sections_of(evidence)
    shown = [*sections, *own]
    claims = [claim for section in sections for claim in section.claims]
    runs = all_runs(sections, evidence)
    template = html_templates().get_template("report.html.j2")
    page: str = template.render(
        scale=evidence.scale,
        evidence=str(evidence),
        sections=sections,
        own=own,
        figures=drawn([section.experiment for section in shown], evidence),
        claims=claims,
        counts=count(claims),
        overclaims=[claim for claim in claims if claim.overclaim],
        marks=MARKS,
        coverage=coverage(sections),
        cost=cost_of(runs),
        paper=read_paper(),
        anchors=anchors(),
        ledger=explainer.ledger,
        data=embedded(panels(shown, all_runs(shown, evidence), explainer)),
        style=Markup("").join(map(_asset, STYLES)),
        scripts=[_asset(name) for name in SCRIPTS],
    )
    return page


def _asset(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704  our own file
