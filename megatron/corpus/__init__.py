"""Raw text in, labelled documents out: reading, language and script codes, the sample corpus, tokenising. No torch."""
