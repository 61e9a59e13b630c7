"""What a run reports: the metrics record, and the console lines and TensorBoard curves drawn from it. Torch-free."""
