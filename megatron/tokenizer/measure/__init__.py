"""What tokenizers make of text in many languages: counts that add up, and the figures that follow from them."""
