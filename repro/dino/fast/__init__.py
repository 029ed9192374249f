"""The fast path: the same mathematics with other rounding (parity class B)."""
