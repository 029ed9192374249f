"""How runs are, and why they ended badly."""
