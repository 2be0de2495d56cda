"""Tensors: network, loss, augmentation, loading, checkpoints, prediction."""
