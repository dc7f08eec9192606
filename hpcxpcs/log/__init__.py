"""What processes say: lines, their files and how these are read, and the log of one process."""
