"""A SLURM cluster: what is sent, what a job does there, what SLURM says."""
