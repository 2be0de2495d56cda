"""Experiment tracking, which never breaks a run and never slows one."""
