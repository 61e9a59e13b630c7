"""Whether programs that a model writes are right: they are run, in a sandbox, against the tests of a benchmark."""
