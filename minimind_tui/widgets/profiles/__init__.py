"""The widgets of the Profiles screen."""
