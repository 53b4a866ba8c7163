"""The formulas: pure functions on tensors."""
