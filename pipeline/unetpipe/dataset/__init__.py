"""Many cases: listed, checked, planned for, split into folds and stored."""
