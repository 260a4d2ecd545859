"""The messages of every socket, and the codec that is the farm's border control."""
