"""Arrays in, numbers out: overlap, surface distance, summaries."""
