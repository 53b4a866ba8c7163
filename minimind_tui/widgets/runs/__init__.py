"""Widgets of the Runs and the Compare screen."""
