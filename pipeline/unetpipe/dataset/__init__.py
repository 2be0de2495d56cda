"""Many cases: which exist, what they look like, what to do about it, and their arrays on disk."""
