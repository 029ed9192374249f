"""Frozen features (App. F): which layers, kept in files, nearest neighbours, pictures."""
