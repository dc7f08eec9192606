"""From frames of a detector to two-time matrices: masks, q-maps, partitions, the correlator, and what it shows."""
