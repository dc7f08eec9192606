"""g2(τ) of multi-tau results: reading, averaging, fitting every bin of a file, and τ against q."""
