"""Every figure, from records to files."""
