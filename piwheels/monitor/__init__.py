"""The live view of a farm."""
