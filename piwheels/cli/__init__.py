"""One module per command: the only composition root and the only reader of configuration."""
