"""The public face: pages, JSON and the one writer of the web tree."""
