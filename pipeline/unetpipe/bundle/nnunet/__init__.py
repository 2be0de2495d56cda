"""Models that nnU-Net trained, as bundles."""
