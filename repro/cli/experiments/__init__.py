"""What there is to run: list, show, plan."""
