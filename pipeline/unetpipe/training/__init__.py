"""A network being trained: batches, optimisation, schedule, validation, checkpoints."""
