"""From experiment files to finished runs: spec, identity, plan, store, worker, local pool."""

from pathlib import Path

import repro

PACKAGE = Path(repro.__file__).resolve().parent
# In a wheel: experiments/, published results, benchmarks and code.json (setup.py puts them there).
# In a clone these lie beside the package.
SHIPPED = PACKAGE / "shipped"
