"""`python -m repro.cli` is `repro`."""

import sys

from repro.cli.parser import main

sys.exit(main())
