"""Configurations of the homodyne and heterodyne programs: recognised, translated and accounted for key by key."""
