"""A model of several data sets is, at every angle, the model of that angle's own q, phi and parameters."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.physics.model import AngleSets, build_model

T1, T2 = jnp.linspace(0.1, 3.0, 7)[:, None], jnp.linspace(0.2, 4.0, 5)[None, :]
PHI = (0.0, 40.0, -70.0, 10.0)
Q = (0.004, 0.004, 0.007, 0.012)
NUMBER = (0, 0, 1, 2)

THETA = {
    "static": [3000.0, -0.3, 50.0],
    "laminar_flow": [3000.0, -0.3, 50.0, 1e-3, -0.2, 1e-5, 12.0],
    "two_component": [2000.0, 0.1, 30.0, 4000.0, -0.1, 0.0, 900.0, 0.2, 10.0, 0.4, 0.1, 1.0, 0.1, 5.0],
    "static_ref": [3000.0, -0.3, 50.0],
    "static_both": [2000.0, 0.1, 30.0, 9000.0, -0.1, 0.0],
}


def sets(*own: tuple[int, int]) -> AngleSets:
    return AngleSets(jnp.array(PHI), jnp.array(Q), jnp.array(NUMBER), 3, own)


@pytest.mark.parametrize("name", THETA)
def test_given_sets_of_several_q_then_every_angle_has_the_shape_of_its_own_model(name):
    theta = np.array(THETA[name])
    joint = build_model(name, q=0.005, sets=sets())
    for k, (q, phi) in enumerate(zip(Q, PHI, strict=True)):
        alone = build_model(name, q=q)
        np.testing.assert_allclose(joint.shape(theta, T1, T2, float(k)), alone.shape(theta, T1, T2, phi), rtol=1e-12)
        np.testing.assert_allclose(joint.field(theta, T1, T2, k), alone.field(theta, T1, T2, phi), rtol=1e-12)


def test_given_angles_along_an_axis_then_shapes_are_those_one_by_one():
    joint, theta = (
        build_model("laminar_flow", q=0.005, sets=sets((3, 7))),
        np.array([*THETA["laminar_flow"], 0.2, -0.4]),
    )
    together = joint.shape(theta, T1[None], T2[None], jnp.arange(4.0)[:, None, None])
    for k in range(4):
        np.testing.assert_allclose(together[k], joint.shape(theta, T1, T2, float(k)), rtol=1e-12)


def test_given_an_amplitude_of_its_own_then_the_rate_scales_with_its_constant_part():
    joint = build_model("static", q=0.005, sets=sets((0, 3)))
    theta = np.array([*THETA["static"], np.log(1.5), np.log(0.25)])
    for k, factor in ((0, 1.0), (2, 1.5), (3, 0.25)):
        own = np.array(THETA["static"]) * [factor, 1.0, factor]
        alone = build_model("static", q=Q[k]).shape(own, T1, T2, PHI[k])
        np.testing.assert_allclose(joint.shape(theta, T1, T2, float(k)), alone, rtol=1e-12)


def test_given_an_exponent_and_a_direction_of_their_own_then_they_are_added():
    joint = build_model("laminar_flow", q=0.005, sets=sets((1, 7), (6, 9)))
    theta = np.array([*THETA["laminar_flow"], 0.1, 0.2, 5.0, -8.0])
    for k, shift, turn in ((1, 0.0, 0.0), (2, 0.1, 5.0), (3, 0.2, -8.0)):
        own = np.array(THETA["laminar_flow"])
        own[1], own[6] = own[1] + shift, own[6] + turn
        alone = build_model("laminar_flow", q=Q[k]).shape(own, T1, T2, PHI[k])
        np.testing.assert_allclose(joint.shape(theta, T1, T2, float(k)), alone, rtol=1e-12)
