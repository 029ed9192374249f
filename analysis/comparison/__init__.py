"""Runs of people's own beside each other: what differs in them and what came of it."""
