"""What a wheel has beside Python files: the paper's experiments, the published results, the
benchmarks, and which version of the code it is. They go into `repro/shipped` of the wheel, so that
neither `experiments` nor `results` becomes a package of everybody's. All else is in pyproject.toml.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
OWN = ROOT / "experiments" / "own"  # people's, which stay where they are
FILES = (  # as in MANIFEST.in
    "CITATION.cff",
    "LICENSE",
    "experiments/**/*",
    "results/benchmarks/*.json",
    "results/benchmarks/*.md",
    "results/published/**/*",
)


class BuildPackage(build_py):
    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(self.build_lib, ignore_errors=True)  # modules that are no more
        super().run()
        package = Path(self.build_lib, "repro")
        for path in (path for pattern in FILES for path in ROOT.glob(pattern)):
            if path.is_file() and not path.name.startswith(".") and OWN not in path.parents:
                copy = package / "shipped" / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        write_code_version(package / "shipped", package)


class SourceArchive(sdist):
    def make_release_tree(self, base_dir: str, files: Any) -> None:
        super().make_release_tree(base_dir, files)
        write_code_version(Path(base_dir), Path(base_dir, "repro"))


def write_code_version(folder: Path, package: Path) -> None:
    """code.json, from which a run's record takes its commit where there is no git."""
    sys.path.insert(0, str(ROOT))
    from repro.harness.runs import environment as code

    digest = code.digest_of(code.package_contents(package))
    version = code.with_check(code.code_version() | {"digest": digest})
    (folder / code.CODE).write_text(json.dumps(version, indent=2, sort_keys=True) + "\n")


setup(cmdclass={"build_py": BuildPackage, "sdist": SourceArchive})
