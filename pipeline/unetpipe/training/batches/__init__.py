"""What a step learns from: patches, and their augmentation."""
