"""The transformer, its attention over flat batches, its cache, and the weight formats it reads and writes."""
