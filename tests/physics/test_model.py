"""What every model promises: shapes, precision, bounds, derivatives, positive fields."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcxpcs.physics.model import MODELS, TimeGrid, build_model

Q, GAP = 0.0054, 2.0e6
TIMES = 0.1 * np.arange(1, 41)
GRID = TimeGrid(start=0.1, step=0.1, count=40)
TRANSPORT = [(100.0, 1e5), (-5.0, 5.0), (0.0, 1e5)]
BOUNDS = {
    "static": TRANSPORT,
    "laminar_flow": [*TRANSPORT, (1e-6, 0.5), (-2.0, 2.0), (-0.1, 0.1), (-10.0, 10.0)],
    "two_component": [
        *TRANSPORT,
        *TRANSPORT,
        (1e-6, 1e4),
        (-2.0, 2.0),
        (-100.0, 100.0),
        (0.0, 1.0),
        (-10.0, 10.0),
        (-1e4, 1e4),
        (0.0, 1.0),
        (-10.0, 10.0),
    ],
    "static_ref": TRANSPORT,
    "static_both": [*TRANSPORT, *TRANSPORT],
}
TYPICAL = {
    "static": [5000.0, -0.5, 10.0],
    "laminar_flow": [1000.0, -0.5, 10.0, 3e-4, 0.2, 1e-5, 3.0],
    "two_component": [1e3, -0.3, 50.0, 2e4, 0.2, 100.0, 1000.0, -0.4, 5.0, 0.4, -0.1, 1.0, 0.1, 3.0],
    "static_ref": [5000.0, -0.5, 10.0],
    "static_both": [1000.0, -0.5, 10.0, 2e4, 0.2, 100.0],
}
VARIANTS = [
    (name, law, integrator, convention)
    for name in MODELS
    for law in (("couette", "homodyne-2") if name == "laminar_flow" else ("couette",))
    for integrator in ("exact", "trapezoid")
    for convention in (("physical", "heterodyne-2") if name == "two_component" else ("physical",))
]


def variant(name, law, integrator, convention):
    return build_model(name, q=Q, gap=GAP, shear_law=law, integrator=integrator, heterodyne=convention, grid=GRID)


def compiled(model):
    """The shape and its Jacobian by theta, compiled."""
    return jax.jit(model.shape), jax.jit(jax.jacfwd(model.shape))


SHAPE = jax.jit(lambda model, *rest: model.shape(*rest))
FIELD = jax.jit(lambda model, *rest: model.field(*rest))


def square(function, model, phi=20.0):
    """A compiled shape or field of typical parameters on TIMES x TIMES."""
    theta = np.array(TYPICAL[model.name])
    return np.asarray(function(model, theta, TIMES[:, None], TIMES[None, :], phi))


@pytest.mark.parametrize("settings_", VARIANTS, ids="-".join)
class TestEveryModel:
    def test_given_typical_parameters_when_evaluated_then_the_shape_is_bounded_symmetric_and_one_at_lag_zero(
        self, settings_
    ):
        f = square(SHAPE, variant(*settings_))
        assert f.dtype == np.float64
        assert np.array_equal(np.diag(f), np.ones(40))
        assert np.array_equal(f, f.T)
        assert f.min() >= 0.0
        assert f.max() <= 1.0 + 1e-15
        assert f.min() < 0.9

    def test_given_a_grid_of_times_when_the_field_is_squared_then_it_is_the_shape(self, settings_):
        model = variant(*settings_)
        field = square(FIELD, model)
        assert np.allclose(np.abs(field) ** 2, square(SHAPE, model), rtol=0.0, atol=1e-14)

    def test_given_a_grid_of_times_when_diagonalised_then_the_field_is_a_covariance(self, settings_):
        field = square(FIELD, variant(*settings_))
        assert np.allclose(field, field.conj().T, rtol=0.0, atol=1e-15)
        assert np.linalg.eigvalsh(field).min() >= -1e-10

    def test_given_a_static_argument_when_compiled_then_the_model_is_hashable_and_agrees(self, settings_):
        theta = np.array(TYPICAL[settings_[0]])
        first, second = variant(*settings_), variant(*settings_)
        assert hash(first) == hash(second)
        assert np.allclose(
            SHAPE(second, theta, TIMES, 4.0, 20.0),
            first.shape(theta, TIMES, 4.0, 20.0),
            rtol=1e-12,
            atol=1e-14,
        )


@pytest.mark.parametrize("name", list(MODELS))
def test_given_angles_and_two_time_axes_when_evaluated_then_they_broadcast(name):
    model = build_model(name, q=Q)
    phi = np.array([0.0, 45.0, 90.0]).reshape(3, 1, 1)
    for function in (model.shape, model.field):
        assert function(np.array(TYPICAL[name]), TIMES[:, None], TIMES[None, :7], phi).shape == (3, 40, 7)


@pytest.mark.parametrize("name", list(MODELS))
def test_given_parameter_names_when_counted_then_rates_point_at_their_coefficients(name):
    model = build_model(name, q=Q)
    assert len(TYPICAL[name]) == len(model.parameter_names)
    for term in model.rates:
        amplitude, exponent, offset = (model.parameter_names[k] for k in (term.amplitude, term.exponent, term.offset))
        assert amplitude.startswith(("D0", "gamma_dot_t0", "v0"))
        assert exponent.startswith(("alpha", "beta"))
        assert "offset" in offset
        assert term.nonnegative == (term.name != "velocity")


@pytest.mark.parametrize("name", list(MODELS))
def test_given_the_exact_integrator_when_lowered_then_nothing_is_gathered(name):
    model = build_model(name, q=Q)
    program = jax.jit(jax.jacfwd(model.shape)).lower(np.array(TYPICAL[name]), TIMES[:, None], TIMES, 20.0)
    assert "gather" not in program.as_text()


@pytest.mark.parametrize("name", list(MODELS))
def test_given_column_and_row_times_when_lowered_then_powers_are_taken_per_time_not_per_pair(name):
    program = str(
        jax.make_jaxpr(build_model(name, q=Q).shape)(np.array(TYPICAL[name]), TIMES[:, None], TIMES[None], 20.0)
    )
    per_pair = [line for line in program.splitlines() if "f64[40,40]" in line]
    assert not any(" log " in line or " expm1 " in line for line in per_pair)
    assert any(" log " in line for line in program.splitlines())


@pytest.mark.parametrize("name", list(MODELS))
def test_given_time_zero_when_differentiated_then_pairs_with_it_stay_finite(name):
    model = build_model(name, q=Q)
    shape, jacobian = compiled(model)
    for alpha in (-1.5, -1.0, -0.5, 0.0, 0.5):
        theta = np.array(TYPICAL[name])
        theta[[term.exponent for term in model.rates]] = alpha
        times = np.array([0.0, 0.1, 3.0])
        value = shape(theta, times[:, None], times, 20.0)
        slopes = jacobian(theta, times[:, None], times, 20.0)
        assert np.isfinite(value).all()
        assert np.isfinite(slopes).all()
        assert np.array_equal(np.diag(value), np.ones(3))


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("integrator", ["exact", "trapezoid"])
def test_given_the_jacobian_when_compared_with_finite_differences_then_they_agree(name, integrator):
    model = variant(name, "couette", integrator, "physical")
    theta = np.array(TYPICAL[name])
    shape, jacobian_of = compiled(model)
    jacobian = np.asarray(jacobian_of(theta, TIMES[:30], 3.5, 20.0))
    for k in range(theta.size):
        step = np.zeros(theta.size)
        step[k] = 1e-6 * max(abs(theta[k]), 1e-3)
        upper, lower = (shape(theta + s * step, TIMES[:30], 3.5, 20.0) for s in (1.0, -1.0))
        assert jacobian[:, k] * step[k] == pytest.approx(np.asarray(upper - lower) / 2.0, rel=1e-4, abs=1e-13)


def derivatives(name):
    model = build_model(name, q=Q)

    def total(theta):
        return jnp.sum(model.shape(theta, TIMES[::4, None], TIMES[None, ::5], 20.0))

    def evaluate(theta, direction):
        shape = model.shape(theta, TIMES[::4, None], TIMES[None, ::5], 20.0)
        return shape, *jax.jvp(jax.grad(total), (theta,), (direction,))

    return jax.jit(evaluate)


COMPILED = {name: derivatives(name) for name in MODELS}


@pytest.mark.parametrize("name", list(MODELS))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_given_any_parameters_inside_the_bounds_when_differentiated_twice_then_all_is_finite(name, data):
    theta = np.array([data.draw(st.floats(low, high)) for low, high in BOUNDS[name]])
    shape, *slopes = COMPILED[name](theta, np.ones_like(theta))
    assert float(shape.min()) >= 0.0
    assert float(shape.max()) <= 1.0 + 1e-12
    for values in slopes:
        assert np.isfinite(values).all()


@pytest.mark.parametrize("name", ["static", "laminar_flow", "two_component"])
def test_given_exponents_on_both_sides_of_minus_one_when_evaluated_then_value_and_slope_are_continuous(name):
    model = build_model(name, q=Q)
    index, (shape, jacobian) = model.rates[0].exponent, compiled(model)
    values = []
    for exponent in (-1.0 - 1e-9, -1.0, -1.0 + 1e-9):
        theta = np.array(TYPICAL[name])
        theta[index] = exponent
        values.append(np.append(jacobian(theta, 0.1, 0.4, 0.0), shape(theta, 0.1, 0.4, 0.0)))
    assert np.allclose(values[0], values[1], rtol=1e-7, atol=0.0)
    assert np.allclose(values[2], values[1], rtol=1e-7, atol=0.0)


@pytest.mark.parametrize("name", list(MODELS))
def test_given_rates_linear_in_time_when_summed_then_the_trapezoid_agrees_with_the_exact_integral(name):
    exact, summed = (variant(name, "couette", integrator, "physical") for integrator in ("exact", "trapezoid"))
    theta = np.array(TYPICAL[name])
    theta[[term.exponent for term in exact.rates]] = 1.0
    for pair in [(0.1, 0.2), (0.3, 1.7), (4.0, 0.1)]:
        assert float(summed.shape(theta, *pair, 20.0)) == pytest.approx(
            float(exact.shape(theta, *pair, 20.0)), rel=1e-9
        )


def test_given_a_negative_shear_rate_when_not_homodyne_2_then_the_trapezoid_does_not_clip_it():
    model = variant("laminar_flow", "couette", "trapezoid", "physical")
    forward, backward = (np.array([1000.0, -0.5, 10.0, 0.0, 0.0, rate, 0.0]) for rate in (1e-4, -1e-4))
    assert float(model.shape(backward, 0.1, 1.0, 0.0)) == float(model.shape(forward, 0.1, 1.0, 0.0)) < 0.9


@pytest.mark.parametrize("name", list(MODELS))
def test_given_single_precision_input_when_evaluated_then_the_answer_is_double(name):
    model = build_model(name, q=Q)
    arguments = np.float32(TYPICAL[name]), np.float32(0.1), np.float32(0.3), np.float32(20.0)
    assert model.shape(*arguments).dtype == np.float64
    assert model.field(*arguments).dtype in (np.float64, np.complex128)


def test_given_conventions_when_asked_then_they_carry_the_names_of_the_configuration():
    laminar = build_model("laminar_flow", q=Q, shear_law="homodyne-2")
    heterodyne = build_model("static_both", q=Q, integrator="trapezoid", grid=GRID, heterodyne="heterodyne-2")
    assert laminar.conventions() == {"integrator": "exact", "shear_law": "homodyne-2"}
    assert heterodyne.conventions() == {"integrator": "trapezoid", "heterodyne": "heterodyne-2"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "laminar"}, "model: 'laminar' is not one of static, laminar_flow"),
        ({"shear_law": "poiseuille"}, "shear_law: 'poiseuille'"),
        ({"integrator": "simpson"}, "integrator: 'simpson'"),
        ({"heterodyne": "soft"}, "heterodyne: 'soft'"),
        ({"q": 0.0}, "q: 0.0 must be a positive number"),
        ({"gap": float("nan")}, "gap: nan must be a positive number"),
        ({"integrator": "trapezoid"}, "'trapezoid' needs a grid"),
    ],
)
def test_given_an_impossible_request_when_built_then_the_error_names_it(changes, message):
    with pytest.raises(ValueError, match=message):
        build_model(**({"name": "static", "q": Q} | changes))
