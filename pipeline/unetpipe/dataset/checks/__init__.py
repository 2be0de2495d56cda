"""Faults of cases, alone and beside each other, and the statistics that planning needs."""
