"""Runs that a GPU's time buys, and their way home."""
