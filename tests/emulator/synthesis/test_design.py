"""The design: the same stars always, in the documented ranges; and what stars are made of."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from phdl_catalog.emulator.synthesis import design
from phdl_catalog.emulator.synthesis.composition import SOLAR, SYMBOLS, abundances, number_fractions
from phdl_catalog.emulator.synthesis.design import LabelDesign
from phdl_catalog.errors import InputError


@pytest.fixture(scope="module")
def stars() -> NDArray[np.float64]:
    return LabelDesign().stars(1000)


def column(stars: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    return stars[:, LabelDesign().label_names.index(name)]


def test_a_larger_design_begins_with_the_smaller_one(stars: NDArray[np.float64]) -> None:
    for number in (1, 2, 63, 500):
        assert np.array_equal(LabelDesign().stars(number), stars[:number])
    assert not np.array_equal(LabelDesign(seed=1).stars(10), stars[:10])
    assert not np.intersect1d(LabelDesign().reference_stars(10), stars[:10]).size


def test_labels_lie_in_the_documented_ranges(stars: NDArray[np.float64]) -> None:
    assert LabelDesign().label_names[:5] == ("teff", "logg", "v_micro", "fe_h", "c_fe")
    assert stars.shape == (1000, 32)
    for name, low, high in (
        ("teff", 4000, 7000), ("logg", 0.5, 5.0), ("fe_h", -2.5, 0.5), ("c_fe", -0.6, 0.6),
        ("n_fe", -0.5, 0.9),
        ("mg_fe", -0.35, 0.65), ("eu_fe", -0.6, 0.7), ("ni_fe", -0.5, 0.5), ("v_micro", 0.3, 2.6),
    ):  # fmt: skip
        values = column(stars, name)
        assert low <= values.min() < low + 0.2 * (high - low), name
        assert high - 0.3 * (high - low) < values.max() <= high, name
    assert np.mean(column(stars, "fe_h") > -1.2) == pytest.approx(0.75, abs=0.02)
    usual = design.v_micro_relation(column(stars, "teff"), column(stars, "logg"))
    assert np.abs(column(stars, "v_micro") - usual).max() < 0.8


def test_half_the_stars_are_subgiants_a_quarter_dwarfs_a_quarter_giants(stars: NDArray[np.float64]) -> None:
    teff, logg = column(stars, "teff"), column(stars, "logg")
    for turn, population in enumerate(design.TURNS):
        own = slice(turn, None, 4)
        assert population.teff[0] <= teff[own].min() < teff[own].max() <= population.teff[1]
        limits = np.array([population.logg(value) for value in teff[own]])
        assert np.all((logg[own] >= limits[:, 0]) & (logg[own] <= limits[:, 1]))


def test_alpha_elements_go_together_and_others_do_not(stars: NDArray[np.float64]) -> None:
    assert np.corrcoef(column(stars, "mg_fe"), column(stars, "ca_fe"))[0, 1] == pytest.approx(0.5, abs=0.1)
    assert abs(np.corrcoef(column(stars, "ni_fe"), column(stars, "ca_fe"))[0, 1]) < 0.1


def test_there_are_no_carbon_stars(stars: NDArray[np.float64]) -> None:
    excess = column(stars, "c_fe") - column(stars, "o_fe")
    cool = column(stars, "teff") < 5500.0
    assert excess[cool].max() < 0.22
    assert excess[~cool].max() > 0.3


def test_a_step_from_a_reference_star_stays_in_the_ranges() -> None:
    labels = LabelDesign().reference_stars(200) + LabelDesign().steps
    assert labels[:, 0].max() <= 7000.0
    assert labels[:, 1].max() <= 5.0
    assert labels[:, 3].max() <= 0.5 + 1e-12


def test_the_elements_of_a_design_may_be_chosen() -> None:
    assert LabelDesign(elements=("Mg", "Li")).label_names[4:] == ("mg_fe", "li_fe")
    for wrong in (("Fe",), ("Mg", "Mg"), ("Xx",)):
        with pytest.raises(InputError, match="elements must be different symbols"):
            LabelDesign(elements=wrong)


def test_abundances_are_solar_plus_iron_plus_ratio() -> None:
    values = abundances({"fe_h": -1.0, "mg_fe": 0.4, "teff": 5000.0})
    assert values["Mg"] == pytest.approx(7.60 - 1.0 + 0.4)
    assert values["Fe"] == pytest.approx(6.50)
    assert values["Ni"] == pytest.approx(5.22)
    assert (values["H"], values["He"]) == (12.0, 10.93)
    with pytest.raises(InputError, match="no fe_h"):
        abundances({"mg_fe": 0.0})


def test_number_fractions_are_those_of_the_line_formation_codes_own_solar_scale() -> None:
    from pysme.abund import Abund

    fractions = number_fractions(abundances({"fe_h": 0.0}))
    theirs = np.array(Abund(0, "asplund2009")("sme", raw=True))
    known = np.array([symbol in SOLAR for symbol in SYMBOLS])
    assert fractions[known] == pytest.approx(theirs[known], abs=2e-3)
    assert fractions[0] + np.sum(10.0 ** fractions[1:]) == pytest.approx(1.0, abs=1e-12)
