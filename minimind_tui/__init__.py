"""The workstation in the terminal: screens over the engine's run folders."""
