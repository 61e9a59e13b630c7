"""What a run would take, reckoned without a GPU and without torch: memory, messages and time of every layout."""
