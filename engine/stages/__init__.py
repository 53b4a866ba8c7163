"""One file a stage; loaded lazily by the registry."""
