"""Which runs are needed, what they cost, and sending them."""
