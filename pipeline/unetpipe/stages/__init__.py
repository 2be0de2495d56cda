"""One verb per file: the only orchestration."""
