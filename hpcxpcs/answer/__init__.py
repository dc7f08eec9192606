"""What a fit and a posterior answer, as inference makes it and results show it: records without JAX."""
