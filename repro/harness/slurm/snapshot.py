"""The code of a submission: a job that waits for days runs what was submitted, not what was edited.

`results/code/HASH/repro` is a copy of this package, named by its content, so that submissions of
the same code share it; `code.json` beside it keeps the commit and the uncommitted changes.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from repro.files import write_json
from repro.harness.runs.environment import (
    code_version,
    digest_of,
    package_contents,
    with_check,
)

DIGITS = 12


def snapshot(results: Path) -> Path:
    """The folder to import `repro` from, made if this code was never submitted before."""
    contents = package_contents()
    folder = results / "code" / digest_of(contents)[:DIGITS]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.parent / f".new-{secrets.token_hex(8)}"
    unfinished.mkdir()
    for name, content in contents.items():
        path = unfinished / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    write_json(unfinished / "code.json", with_check(code_version()))
    try:
        unfinished.rename(folder)
    except OSError:  # another submission of the same code was faster
        shutil.rmtree(unfinished)
    assert folder.is_dir(), f"{folder}: the snapshot of the code could not be made"
    return folder
