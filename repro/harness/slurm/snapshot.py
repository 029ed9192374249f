"""The code of a submission: a job that waits for days runs what was submitted, not what was edited.

`results/code/HASH/repro` is a copy of this package, named by its content, so that submissions of
the same code share it; `code.json` beside it keeps the commit and the uncommitted changes.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import repro
from repro.files import write_json
from repro.harness.runs.environment import code_version

DIGITS = 12


def snapshot(results: Path) -> Path:
    """The folder to import `repro` from, made if this code was never submitted before."""
    package = Path(repro.__file__).resolve().parent
    files = sorted(p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    contents = {str(file.relative_to(package.parent)): file.read_bytes() for file in files}
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    folder = results / "code" / digest.hexdigest()[:DIGITS]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    unfinished.chmod(0o755)
    for name, content in contents.items():
        path = unfinished / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    write_json(unfinished / "code.json", code_version())
    try:
        unfinished.rename(folder)
    except OSError:  # another submission of the same code was faster
        shutil.rmtree(unfinished)
    assert folder.is_dir(), f"{folder}: the snapshot of the code could not be made"
    return folder
