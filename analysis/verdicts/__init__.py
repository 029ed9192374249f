"""What the evidence says of claims and of cells, and how many seeds would decide."""
