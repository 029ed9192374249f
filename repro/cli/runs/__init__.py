"""Starting, following and stopping runs: submit, run, train, status, logs, cancel, retry."""
