"""Text to token ids and back: one protocol over SentencePiece, Hugging Face and tiktoken files, and their training."""
