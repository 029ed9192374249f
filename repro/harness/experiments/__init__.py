"""What lies in `experiments/`, read and checked: tables and figures, ledger, paper, clusters."""
