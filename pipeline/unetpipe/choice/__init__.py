"""The best of what was trained in a work folder: compared by cross-validation, decided, packaged."""
