"""hpcxpcs: from two-time X-ray photon correlation data to transport coefficients with defensible error bars."""

__version__ = "0.1.0"
