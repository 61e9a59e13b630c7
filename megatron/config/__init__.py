"""What the user writes: typed sections, GPT-NeoX's key table, loading, checking, and the numbers that follow.

Imports without torch, so that ``deepy.py`` answers at once. ``load.load`` turns YAML files into one frozen
``schema.Config``; every other package is handed only its own section of it.
"""
