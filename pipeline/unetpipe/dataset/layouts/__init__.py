"""The layouts that datasets come in, one module each, and what recognises them."""
