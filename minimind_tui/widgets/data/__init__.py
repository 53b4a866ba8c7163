"""The parts of the Data screen."""
