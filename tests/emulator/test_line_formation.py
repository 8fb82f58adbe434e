"""One layer of gas, and the inputs made from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phdl_catalog.emulator.line_formation import FEATURES, LineFormation, _newton_step
from phdl_catalog.emulator.molecules import exp10
from phdl_catalog.emulator.transforms import LabelTransform
from phdl_catalog.spectra import loops

NAMES = ("teff", "logg", "v_micro", "fe_h", "c_fe", "n_fe", "o_fe", "mg_fe", "ti_fe", "ba_fe")


def labels(**values: float) -> torch.Tensor:
    """The Sun, with some labels changed."""
    row = dict.fromkeys(NAMES, 0.0) | {"teff": 5772.0, "logg": 4.44, "v_micro": 1.0} | values
    return torch.tensor([[row[name] for name in NAMES]], dtype=torch.float64)


def feature(name: str, **values: float) -> float:
    return float(LineFormation(NAMES)(labels(**values))[0, FEATURES.index(name)])


def test_the_layer_of_the_sun_has_its_electron_and_gas_pressure() -> None:
    """Solar models at the depth where lines form: log Pe 0.5 to 1.2 in dyn/cm^2."""
    assert 0.4 < feature("log_electron_pressure") < 1.3


@settings(deadline=None, max_examples=50)
@given(
    teff=st.floats(4000, 7500),
    logg=st.floats(0.5, 5.0),
    fe_h=st.floats(-2.5, 0.5),
    mg_fe=st.floats(-0.5, 0.8),
)
def test_electrons_are_as_many_as_ions(teff: float, logg: float, fe_h: float, mg_fe: float) -> None:
    """Another Newton step changes nothing: the pressure is the solution."""
    formation = LineFormation(NAMES)
    row = labels(teff=teff, logg=logg, fe_h=fe_h, mg_fe=mg_fe)
    layer, pressure = formation._layer(row), formation.electron_pressure(row)
    saha = exp10(layer.saha)
    again = _newton_step(layer, pressure, exp10(layer.abundances[: len(saha)]) * saha, saha)
    assert float((again - pressure).abs()) < 1e-9


def test_the_chemistry_is_that_of_textbooks() -> None:
    assert feature("ch", c_fe=0.3) > feature("ch") + 0.25
    # Below C/O = 1, oxygen binds carbon in cool stars and hardly in the Sun.
    assert feature("ch", teff=4300.0, logg=2.0, o_fe=0.4) < feature("ch", teff=4300.0, logg=2.0) - 0.2
    assert feature("c2", c_fe=0.2) - feature("c2") == pytest.approx(0.4, abs=0.1)
    assert feature("cn", n_fe=0.3) - feature("cn") == pytest.approx(0.3, abs=0.05)
    assert feature("mgh", teff=4500.0) > feature("mgh") + 1.0
    # Ionised iron strengthens in giants, neutral iron at low temperature.
    assert feature("fe+", logg=2.5) > feature("fe+") + 0.3
    assert feature("fe", teff=4800.0) > feature("fe") + 0.5


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_the_derivatives_of_the_inputs_are_those_of_central_differences(seed: int) -> None:
    generator = np.random.default_rng(seed)
    row = generator.uniform(-0.4, 0.4, (2, len(NAMES)))
    row[:, 0] = generator.uniform(4000, 7000, 2)
    row[:, 1] = generator.uniform(1.0, 5.0, 2)
    row[:, 2] = generator.uniform(0.5, 2.0, 2)
    at = torch.as_tensor(row)
    transform = LabelTransform(NAMES)
    jacobian = transform.jacobian(at)
    assert jacobian.shape == (2, len(NAMES) + len(FEATURES), len(NAMES))
    for column, name in enumerate(NAMES):
        step = torch.zeros(len(NAMES), dtype=torch.float64)
        step[column] = 1e-2 if name == "teff" else 1e-5
        difference = (transform(at + step) - transform(at - step)) / (2 * step[column])
        torch.testing.assert_close(jacobian[:, :, column], difference, rtol=1e-5, atol=1e-6)


def test_fitted_inputs_are_standardised_and_a_constant_label_stays_finite() -> None:
    generator = np.random.default_rng(1)
    rows = generator.uniform(-0.4, 0.4, (200, len(NAMES)))
    rows[:, 0] = generator.uniform(4500, 6500, 200)
    rows[:, 1] = generator.uniform(2.0, 4.8, 200)
    rows[:, 2] = 1.0
    values = LabelTransform.fitted(NAMES, rows)(torch.as_tensor(rows)).numpy()
    spread = values.std(axis=0)
    np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=1e-9)
    assert spread[2] == 0.0
    np.testing.assert_allclose(np.delete(spread, 2), 1.0, rtol=1e-6)


def test_elements_without_a_label_follow_iron() -> None:
    few = LineFormation(("teff", "logg", "fe_h"))
    many = LineFormation(NAMES)
    expected = many(labels(fe_h=-0.7))
    found = few(torch.tensor([[5772.0, 4.44, -0.7]], dtype=torch.float64))
    torch.testing.assert_close(found, expected)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), names=st.sampled_from([NAMES, ("teff", "logg", "fe_h", "o_fe")]))
def test_the_loop_of_the_processor_and_the_operations_of_other_devices_are_the_same(
    seed: int, names: tuple[str, ...]
) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.uniform(-0.8, 0.8, (5, len(names)))
    rows[:, names.index("teff")] = generator.uniform(3800, 8000, 5)
    rows[:, names.index("logg")] = generator.uniform(0.0, 5.0, 5)
    rows[:, names.index("fe_h")] = generator.uniform(-3.0, 0.5, 5)
    at, formation = torch.as_tensor(rows), LineFormation(names)
    in_loop = formation.with_jacobian(at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops, "wanted", lambda device: False)
        in_operations = formation.with_jacobian(at)
    for one, other in zip(in_loop, in_operations, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)
