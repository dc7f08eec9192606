"""Inference: coordinates in which rates are well determined, the point fit, and how far to trust it."""
