from __future__ import annotations

import numpy as np
import pytest

from phdl_catalog.errors import InputError
from phdl_catalog.spectra.air import refractive_index, vacuum_from_air


@pytest.mark.parametrize(
    ("line", "air", "vacuum"),
    [
        ("Ca II K", 3933.663, 3934.777),
        ("H beta", 4861.35, 4862.71),
        ("Mg I b1", 5183.604, 5185.048),
        ("Na I D2", 5889.950, 5891.583),
        ("H alpha", 6562.80, 6564.61),
        ("Ca II", 8542.09, 8544.44),
    ],
)
def test_lines_come_to_their_vacuum_wavelengths(line: str, air: float, vacuum: float) -> None:
    assert float(vacuum_from_air(air)) == pytest.approx(vacuum, abs=0.006), line


def test_there_and_back_is_where_one_began() -> None:
    air = np.linspace(2000.0, 25000.0, 1001)
    vacuum = vacuum_from_air(air)
    np.testing.assert_allclose(vacuum / refractive_index(vacuum), air, rtol=1e-13)


@pytest.mark.parametrize("wavelength", [1500.0, 0.5, float("nan"), -5000.0])
def test_wavelengths_for_which_the_formula_does_not_hold_are_refused(wavelength: float) -> None:
    with pytest.raises(InputError, match="at least 2000"):
        vacuum_from_air([5000.0, wavelength])
