"""The package's own commands as jobs, on Slurm or in the background."""
