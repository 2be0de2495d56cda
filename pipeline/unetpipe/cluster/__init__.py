"""Our own commands as jobs, on Slurm or as background processes of this machine."""
