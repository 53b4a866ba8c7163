"""From a file to samples: records, chat templates, tokenizer, encoding. Loads no torch."""
