"""From experiment files to finished runs: spec, identity, plan, store, worker, local pool."""

from pathlib import Path

import repro


def package() -> Path:
    """The folder of this package; in a clone, what it reads lies beside it."""
    return Path(repro.__file__).resolve().parent


def shipped() -> Path:
    """What lies beside it in a clone, of an installed package, which setup.py puts there:
    experiments/, published results, benchmarks, code.json. In a clone there is no such folder.
    """
    return package() / "shipped"
