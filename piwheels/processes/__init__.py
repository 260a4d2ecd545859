"""Starting, watching and ending processes. Knows nothing of wheels."""
