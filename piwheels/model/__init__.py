"""Values that every part speaks of. Imports nothing of the project."""
