"""What an extended vocabulary costs a model before it is trained: bits per byte of every language, before and after."""
