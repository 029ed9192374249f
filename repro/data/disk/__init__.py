"""What lies on disk, as people keep it: trees of pictures, pictures of every kind, masks."""
