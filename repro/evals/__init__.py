"""Evaluation protocols on frozen features (Sec. 4, Appendix F)."""
