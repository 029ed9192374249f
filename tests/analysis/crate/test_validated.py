"""The exported crate as roc-validator sees it: `make test-crate`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.crate.export import METADATA

PYTHON = os.environ.get("REPRO_TEST_CRATE", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="make test-crate")
# What it recommends and we do not know or do not have, and why.
NOT_FOLLOWED = {
    "Action endTime": "evaluations keep how long they took, not when",
    "Application url": "commits and packages go by their identifiers",
    "SoftwareApplication id": "they are absolute: swh: and pkg:; it looks at the type instead",
    "CreativeWork Author: RECOMMENDED affiliation property": "CITATION.cff has none",
    "CreativeWork Author: RECOMMENDED Contextual Entity linked for the organizational "
    "`affiliation` property": "CITATION.cff has none",
    "Organization: RECOMMENDED url property": "CITATION.cff has none",
}


def issues(folder: Path, severity: str) -> list[tuple[str, str, str]]:
    """Severity, check and message of each."""
    command = [PYTHON, str(Path(__file__).with_name("validator.py")), str(folder), severity]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [tuple(issue) for issue in json.loads(done.stdout)]


def test_the_crate_of_the_committed_results_is_accepted_and_follows_recommendations(
    crate: Path,
) -> None:
    found = issues(crate, "RECOMMENDED")
    assert [one for one in found if one[0] == "REQUIRED"] == []
    assert {check for _, check, _ in found} == NOT_FOLLOWED.keys()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"instrument"', '"tool"', "MUST have an instrument"),
        ('"datePublished"', '"day"', "datePublished"),
        ('"@id": "LICENSE"', '"@id": "LICENCE"', "LICENCE"),
    ],
)
def test_the_validator_refuses_what_is_wrong(
    crate: Path, tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    copy = tmp_path / "crate"
    shutil.copytree(crate, copy)
    content = (copy / METADATA).read_text()
    assert old in content
    (copy / METADATA).write_text(content.replace(old, new))
    assert any(complaint in message for _, _, message in issues(copy, "REQUIRED"))
