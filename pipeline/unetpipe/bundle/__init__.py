"""The model format: a MONAI bundle that runs without this package."""
