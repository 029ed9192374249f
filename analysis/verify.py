"""Whether a published folder is what its records give, and its records what was published.

Seals and ids are computed anew, every line is checked as evidence is, replications against the runs
that they repeat, and tables, figures and README.md are made again elsewhere and compared byte for
byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.evidence.evidence import published_dir, published_evidence
from analysis.publish import FIGURES, LINES, TABLES, write_from_records
from analysis.replication import contradicted
from repro.errors import UserError
from repro.harness.runs.published import read
from repro.harness.runs.records import Replication
from repro.harness.runs.seal import is_sealed, last_digest, lines_of
from repro.terminal import count

NOTES = "NOTES.md"  # written by people
REPLICATIONS = "replications.jsonl"


@dataclass(frozen=True)
class Verification:
    """What does not agree, in the order of files and lines, and what does."""

    wrong: list[str] = field(default_factory=list)
    right: list[str] = field(default_factory=list)


def verify(scale: str, figures: bool = True) -> Verification:
    """Args: figures: draw them again, too, which takes most of the time.

    Raises:
        UserError: nothing is published at this scale.
    """
    folder = published_dir(scale)
    found = Verification()
    if not (folder / LINES[0]).is_file():
        raise UserError(f"{folder}: no {LINES[0]}; repro publish all --scale {scale}")
    for name in (*LINES, REPLICATIONS):
        lines = lines_of(folder / name)
        if lines and not is_sealed(lines):
            again = f"python -m repro.harness.runs.seal {folder / name}"
            found.wrong.append(f"{folder / name}: its lines have no digests; {again} seals them")
        elif lines:
            found.right.append(f"{name}: {count(len(lines), 'line')}, to {last_digest(lines)}")
    believed = published_evidence(scale)
    found.wrong.extend(str(one) for one in believed.refused if not one.expected)
    for one in believed.refused:
        if one.expected:
            found.right.append(f"no evidence, as meant: {one}")
    found.right.append(f"{count(len(believed.records), 'record')} believed")
    replications = read(folder / REPLICATIONS, Replication)
    refused = [*replications.refused, *contradicted(replications.candidates, believed.records)]
    found.wrong.extend(map(str, refused))
    if agreeing := len(lines_of(folder / REPLICATIONS)) - len(refused):
        found.right.append(f"{count(agreeing, 'replication')} as the numbers say")
    with TemporaryDirectory() as made:
        try:
            written = write_from_records(scale, Path(made), FIGURES if figures else ())
        except UserError as error:
            found.wrong.append(str(error))
            return found
        different = dict(_differences(folder, written, figures))
        found.wrong.extend(f"{folder / name}: {why}" for name, why in different.items())
        same = sum(path.name not in different for path in written)
        found.right.append(f"{count(same, 'file')} made again, byte for byte")
    return found


def _differences(folder: Path, written: list[Path], figures: bool) -> Iterator[tuple[str, str]]:
    """Files that are not what the records give, and files that the records do not give."""
    known = {path.name for path in written} | {*LINES, NOTES, REPLICATIONS}
    for path in written:
        there = folder / path.name
        if not there.is_file():
            yield path.name, "missing, though the records give it"
        elif there.read_bytes() != path.read_bytes():
            yield path.name, f"not what the records give{_where(there, path)}"
    kinds = {f".{name}" for name in (*TABLES, *(FIGURES if figures else ()))}
    for path in sorted(folder.iterdir()):
        if path.name not in known and path.suffix in kinds:
            yield path.name, "the records do not give it"


def _where(there: Path, made: Path) -> str:
    """The first line that differs, of a text."""
    if made.suffix in {f".{name}" for name in FIGURES}:
        return ", or drawn by other versions (--quick leaves figures out)"
    texts = (path.read_text(errors="replace").splitlines() for path in (there, made))
    pairs = zip(*texts, strict=False)
    number = next((i for i, (ours, its) in enumerate(pairs, 1) if ours != its), 0)
    return f", first in line {number}" if number else ", which ends elsewhere"
