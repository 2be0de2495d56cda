"""Networks: their definition as JSON, how they are built, laid out in memory, exported and described."""
