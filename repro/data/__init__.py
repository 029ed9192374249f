"""Data sets: bundled photographs, image folders, torchvision's."""
