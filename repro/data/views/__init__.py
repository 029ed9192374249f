"""Multi-crop views (Sec. 3.1, App. C): for images in memory, on PIL, and fast."""
