"""From a configuration to running processes. Imports without torch, so that it works on a login node."""
