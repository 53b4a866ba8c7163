"""What the Train screen has of its own, beside charts and panes."""
