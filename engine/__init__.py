"""The headless engine of minimind-tui: from raw text to a chat partner."""
