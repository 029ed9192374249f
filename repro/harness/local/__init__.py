"""This machine: a bounded pool of workers and what it shows."""
