"""`repro init`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from repro.cli.exit_codes import FINE
from repro.errors import UserError

HELP = "begin a study of your own: a folder for your experiments, runs and results"
EXAMPLE = "repro init birds"


def add(parser: argparse.ArgumentParser) -> None:
    text = "a new folder, or an empty one"
    parser.add_argument("folder", metavar="DIR", help=text)


def run(arguments: argparse.Namespace) -> int:
    from repro.cli.own.study import FIRST, files
    from repro.files import replace_text

    folder = Path(arguments.folder)
    if folder.is_dir() and (there := sorted(path.name for path in folder.iterdir())):
        more = f" and {len(there) - 1} more" if there[1:] else ""
        raise UserError(f"{folder}: holds {there[0]}{more}; name a new folder, or an empty one")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a new folder, or an empty one")
    for name, text in files(folder.absolute().name).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
        print(path)
    print(f"next:\n  cd {shlex.quote(str(folder))}\n  {FIRST}")
    return FINE
