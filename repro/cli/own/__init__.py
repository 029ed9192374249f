"""Experiments of your own: one line that makes a grid, and a page to begin from."""
