"""Metrics of written texts and of chosen labels, and how sure they are. No torch, except inside BERTScore."""
