"""Which files are compared, scores of all cases, their summary, comparison and gate."""
