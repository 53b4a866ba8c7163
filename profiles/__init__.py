"""Built-in profiles: TOML by hardware and stage."""
