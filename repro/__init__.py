"""Reproduction and ablation harness for DINO (Caron et al., ICCV 2021)."""

__version__ = "0.1.0"
