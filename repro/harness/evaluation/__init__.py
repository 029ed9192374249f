"""The stage after training: which protocol gives which number, on which checkpoint."""
