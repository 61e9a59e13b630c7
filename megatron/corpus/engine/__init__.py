"""Runs passes over a corpus: tasks that are whole or not there, on a pool of processes, under MPI or in job arrays."""
