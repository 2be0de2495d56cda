"""One step of learning: loss, optimisers, learning rates."""
