"""Bundles that others made, such as those of MONAI's Model Zoo: their configs are interpreted, never executed."""
