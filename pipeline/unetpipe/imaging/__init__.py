"""One volume: read, orient, crop, resample, normalise, and the way back."""
