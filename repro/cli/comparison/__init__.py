"""Commands that set runs beside each other."""
