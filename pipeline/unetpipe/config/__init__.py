"""What a person can set: one frozen model per command."""
