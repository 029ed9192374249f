"""What lies in `results/runs`: run folders, their states, failures and records."""
