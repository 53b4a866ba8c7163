"""Settings, profiles and the table of stages; nothing here loads torch."""
