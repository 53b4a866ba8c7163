"""What screens show, without Textual and without torch."""
