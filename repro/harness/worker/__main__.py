"""`python -m repro.harness.worker RUN_FOLDER`; see `run.py`."""

import faulthandler
import sys

from repro.harness.worker.run import leave, main

faulthandler.enable()  # a crash in native code leaves its stack in the log
leave(main(sys.argv[1:]))
