"""The physics of correlation: rates, their integrals, and the shapes they give; pure JAX in double precision.

Importing this package switches JAX to 64-bit numbers: shear phases reach thousands of radians, where single
precision has no correct digit left.
"""

from __future__ import annotations

import jax

jax.config.update("jax_enable_x64", True)
