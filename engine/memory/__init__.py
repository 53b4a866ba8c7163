"""Memory: what a run will take, what fits, what to change, and what happened when it did not."""
