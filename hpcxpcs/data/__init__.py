"""From a data file to the record that everything else works on: two-time matrices, angles, q and times."""
