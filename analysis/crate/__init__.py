"""Published results as a research object, for machines."""
