"""Starting, watching and stopping processes; knows nothing of wheels."""
