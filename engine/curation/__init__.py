"""Curation: new data files made with a model's answers or by filtering; one recipe a file."""
