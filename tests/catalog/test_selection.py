"""Which stars are subgiants: the lines, their edges, and the rule in words."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phdl_catalog.catalog.selection import SELECTION_LABELS, Line, SubgiantSelection
from phdl_catalog.errors import InputError

RULE = SubgiantSelection()

#: Points of isochrones (teff, logg), rounded: past the turn-off and up to the base of the giant branch ...
SUBGIANTS = {
    0.0: [(5697, 4.07), (5623, 4.02), (5401, 3.93), (5111, 3.84), (4905, 3.72)],  # 10 Gyr
    -1.35: [(6369, 4.01), (6255, 3.92), (5997, 3.80), (5706, 3.65), (5500, 3.50)],  # 12 Gyr
}
#: ... and what lies on either side of them.
OTHERS = {
    0.0: [(5774, 4.20), (5600, 4.50), (4780, 3.42), (4741, 3.28), (4600, 2.9), (6360, 4.15)],
    -1.35: [(6490, 4.20), (5600, 4.65), (5316, 3.17), (5000, 2.3)],
}


@pytest.mark.parametrize(("fe_h", "points"), SUBGIANTS.items())
def test_the_subgiant_branch_is_inside(fe_h, points):
    for teff, logg in points:
        assert RULE.is_subgiant([teff], [logg], [fe_h])[0], (teff, logg, fe_h)


@pytest.mark.parametrize(("fe_h", "points"), OTHERS.items())
def test_main_sequence_turn_off_and_giants_are_outside(fe_h, points):
    for teff, logg in points:
        assert not RULE.is_subgiant([teff], [logg], [fe_h])[0], (teff, logg, fe_h)


@pytest.mark.parametrize(
    ("term", "edge", "outwards"),
    [
        ("floor", (5600.0, 3.3, 0.0), (0, -1e-6, 0)),
        ("turn_off", (5600.0, 4.1, 0.0), (0, 1e-6, 0)),
        ("turn_off", (6800.0, 3.94, 0.0), (0, 1e-6, 0)),
        ("teff_window", (4800.0, 3.6, 0.5), (-1e-3, 0, 0)),
        ("teff_window", (6800.0, 3.9, 0.0), (1e-3, 0, 0)),
        ("giant_branch", (5200.0, 3.5, -1.0), (-1e-3, 0, 0)),
        ("metallicity", (5600.0, 3.5, -2.5), (0, 0, -1e-6)),
    ],
)
def test_an_edge_belongs_to_the_region_and_one_step_further_does_not(term, edge, outwards):
    assert RULE.is_subgiant(*edge)
    beyond = tuple(np.add(edge, outwards))
    assert not RULE.is_subgiant(*beyond)
    failed = [entry.name for entry in RULE.terms(*beyond, snr_g=50.0, flags=0) if not entry.passed]
    assert failed == [term]


def test_a_metal_poor_turn_off_is_hotter():
    assert RULE.is_subgiant(6300.0, 4.08, -1.5)
    assert not RULE.is_subgiant(6300.0, 4.08, 0.0)


@pytest.mark.parametrize("missing", range(len(SELECTION_LABELS)))
def test_a_star_without_one_of_the_labels_is_out(missing):
    labels = [5600.0, 3.8, -0.3]
    labels[missing] = np.nan
    assert not RULE.is_subgiant(*labels)
    terms = RULE.terms(*(None if np.isnan(value) else value for value in labels), snr_g=50.0, flags=0)
    assert any(not term.passed and "missing" in term.text for term in terms)


@given(
    st.floats(4000, 7500),
    st.floats(2.5, 5.0),
    st.floats(-3, 0.7),
    st.floats(0, 200),
    st.sampled_from([0, 1, 4, 32, 64]),
)
def test_the_terms_agree_with_the_rule(teff, logg, fe_h, snr_g, flags):
    usable = snr_g >= RULE.snr_g_min and not flags & RULE.rejecting_mask
    passed = all(term.passed for term in RULE.terms(teff, logg, fe_h, snr_g, flags))
    assert passed == (usable and bool(RULE.is_subgiant(teff, logg, fe_h)))


def test_flags_that_only_warn_do_not_reject():
    assert all(term.passed for term in RULE.terms(5600.0, 3.8, -0.3, 50.0, flags=32 | 64))
    (failed,) = [term for term in RULE.terms(5600.0, 3.8, -0.3, 50.0, flags=8 | 32) if not term.passed]
    assert failed.text.startswith("bad_velocity of ")


def test_a_selection_survives_json():
    rule = dataclasses.replace(RULE, snr_g_min=35.0, turn_off=Line(((5000.0, 4.0),)))
    assert SubgiantSelection.from_dict(rule.to_dict()) == rule


def test_a_selection_with_an_unknown_part_is_refused():
    with pytest.raises(InputError, match=r"has no snr_min; it has: .*snr_g_min"):
        SubgiantSelection.from_dict({"snr_min": 3})


def test_an_unknown_flag_is_refused():
    with pytest.raises(InputError, match="no fit flag is called bad_seeing"):
        SubgiantSelection(rejecting_flags=("bad_seeing",))


def test_a_line_that_goes_back_is_refused():
    with pytest.raises(InputError, match="ascending"):
        Line(((1.0, 0.0), (1.0, 2.0)))
