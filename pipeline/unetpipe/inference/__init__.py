"""From a network input to labels on the scan's grid, a slab at a time."""
