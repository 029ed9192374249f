"""Reproduction and ablation harness for DINO (Caron et al., ICCV 2021).

In a notebook, `import repro` gives experiments, runs, tables and figures: see `repro/notebook.py`.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
NOTEBOOK = (
    "cells", "config_of", "curves", "experiments", "figure", "runs", "table", "trainer", "verdicts",
)  # fmt: skip

if TYPE_CHECKING:
    from repro.notebook import (
        cells,
        config_of,
        curves,
        experiments,
        figure,
        runs,
        table,
        trainer,
        verdicts,
    )

    __all__ = [
        "cells",
        "config_of",
        "curves",
        "experiments",
        "figure",
        "runs",
        "table",
        "trainer",
        "verdicts",
    ]
else:

    def __getattr__(name: str) -> Any:
        """What people use stands highest of all and is found by name, when somebody asks for it:
        whatever says `import repro` below stays light, and no import of this file runs upward.
        """
        if name not in NOTEBOOK:
            raise AttributeError(f"module 'repro' has no attribute '{name}'")
        from importlib import import_module

        return getattr(import_module("repro.notebook"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *NOTEBOOK})
