"""Rewards: small functions over answers, combined with weights. The checks of answers load no torch."""
