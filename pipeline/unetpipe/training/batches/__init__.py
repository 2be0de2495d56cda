"""The batches of training: patches, and their augmentation."""
