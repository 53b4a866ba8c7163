"""A run on disk: its folder, its events, its control file and its checkpoints."""
