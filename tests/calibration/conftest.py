"""One simulated survey with known corrections, solved once."""

from __future__ import annotations

import pytest
from simulated_corrections import Solved, solve_simulated


@pytest.fixture(scope="session")
def solved() -> Solved:
    """300 pairs, 5 % by chance, 500 references of two surveys."""
    return solve_simulated(seed=3)
