"""The chat's own widgets."""
