"""The proof: every stage on the starter world, before → train → after on the same questions, seed by seed."""
