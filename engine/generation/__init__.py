"""Decoding with a key-value cache: chat, evaluation and rollouts use it."""
