"""Augmentation of a whole batch at once, on the device that it lies on: a file for each kind of transform."""
