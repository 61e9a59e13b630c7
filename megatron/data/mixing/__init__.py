"""The parts of a mixture: tiers, selections, phases, and limits on epochs."""
