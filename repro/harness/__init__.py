"""From experiment files to finished runs: spec, identity, plan, store, worker, local pool."""
