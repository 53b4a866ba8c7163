"""What shows memory: the plan against its limit, and changes that help."""
