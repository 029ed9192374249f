"""Weights in and out: whose file it is, which network it fills, which images it wants to see, and
what does not fit.
"""
