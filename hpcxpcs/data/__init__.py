"""From a data file to the one record that everything else works on: two-time matrices with angles, q and times."""
