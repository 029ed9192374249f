"""The method of the paper (Sec. 3): it takes a typed config and yields metrics."""
