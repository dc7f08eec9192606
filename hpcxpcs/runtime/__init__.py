"""Machine, processes and their limits; nothing in this room imports JAX, so it can run before JAX does."""
