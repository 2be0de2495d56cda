"""Pairing of files, scores of all cases, their summary, comparison and gate."""
