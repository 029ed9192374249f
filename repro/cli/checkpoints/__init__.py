"""Trained networks, ours and others': eval, export."""
