"""Files that appear whole or not at all, and the one JSON writer: what every other room writes with."""
