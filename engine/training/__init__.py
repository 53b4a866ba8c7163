"""The training loop; it knows only the Stage protocol."""
