"""Experiment tracking that never breaks, and never slows, a run."""
