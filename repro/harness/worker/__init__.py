"""One process that trains one run: `python -m repro.harness.worker RUN_FOLDER`."""
