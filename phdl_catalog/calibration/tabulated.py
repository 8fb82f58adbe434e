"""Corrections as polynomials in small cells: a hundred functions become twenty products a label.

A correction is a sum, b(teff, logg, fe_h) = S(teff, logg) + x I(teff, logg) + M(fe_h), with x the place of
fe_h between the walls, from -1 to 1.  S, I and M are smooth on scales that `basis` bounds from below, so in
cells that are small beside these scales polynomials are as good as the functions themselves: what is left is
below 1e-6 dex.  That is the form in which ten million stars are corrected by query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.basis import SmoothBasis

Floats = NDArray[np.float64]

#: Size of a cell [K, dex, dex]: small beside the shortest scales that the basis resolves.
SIZE = np.array([40.0, 0.04, 0.02])

#: Powers of (u, v), the place in a cell from -1/2 to 1/2: of S; the first six of I, which is slower; of M.
SURFACE_POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3))
INTERACTION_POWERS = SURFACE_POWERS[:6]
CURVE_POWERS = (0, 1, 2)

#: Coefficients a label in a cell of (teff, logg), and in one of fe_h.
SURFACE_TERMS = len(SURFACE_POWERS) + len(INTERACTION_POWERS)
CURVE_TERMS = len(CURVE_POWERS)

#: Chebyshev's nodes in a cell: polynomials through them are nearly the best ones.
_NODES = 0.5 * np.cos((2 * np.arange(4) + 1) * np.pi / 8)


@dataclass(frozen=True, eq=False)
class TabulatedCorrections:
    """Polynomials of the corrections of L labels in the cells that tile a basis' box.

    Parameters
    ----------
    basis : SmoothBasis
        Says where the box is.
    surface : (n_teff * n_logg, L, 16) float32 array
        Coefficients of S and of I, in the order of `SURFACE_POWERS` and `INTERACTION_POWERS` [label units].
    curve : (n_fe_h, L, 3) float32 array
        Coefficients of M.
    """

    basis: SmoothBasis
    surface: NDArray[np.float32]
    curve: NDArray[np.float32]

    @classmethod
    def of(cls, basis: SmoothBasis, coefficients: Floats) -> TabulatedCorrections:
        """Tabulate.

        Parameters
        ----------
        basis : SmoothBasis
            K functions.
        coefficients : (K, L) array
            Of each label's correction [label units].
        """
        where, count = basis.slices, coefficients.shape[1]
        shape = _shape(basis)
        low, middle = np.asarray(basis.center) - np.asarray(basis.half_width), np.asarray(basis.center)
        axes = [
            start + size * (np.arange(n)[:, None] + 0.5 + _NODES)
            for start, size, n in zip(low, SIZE, shape, strict=True)
        ]
        nodes = np.stack([a.ravel() for a in np.meshgrid(_NODES, _NODES, indexing="ij")], axis=1)

        # (n_teff, n_logg, 4, 4) nodes of all cells, at the upper wall of fe_h, where x is one.
        teff = np.broadcast_to(axes[0][:, None, :, None], (shape[0], shape[1], 4, 4))
        logg = np.broadcast_to(axes[1][None, :, None, :], teff.shape)
        upper = np.full(teff.size, middle[2] + basis.half_width[2])
        functions = basis.functions(np.stack([teff.ravel(), logg.ravel(), upper], axis=1), beyond_walls=True)
        own = np.r_[where["constant"], where["linear"].start + np.arange(2), where["surface"]]
        products = where["interaction"]
        parts = (
            (functions[:, own] @ coefficients[own], SURFACE_POWERS),
            (functions[:, products] @ coefficients[products], INTERACTION_POWERS),
        )
        surface = np.concatenate([_polynomials(values, nodes, powers) for values, powers in parts], axis=1)

        fe_h = axes[2].ravel()
        points = np.stack([np.full(fe_h.size, middle[0]), np.full(fe_h.size, middle[1]), fe_h], axis=1)
        own = np.r_[where["linear"].start + 2, where["metallicity"]]
        values = basis.functions(points, beyond_walls=True)[:, own] @ coefficients[own]
        curve = _polynomials(values, _NODES[:, None], tuple((power,) for power in CURVE_POWERS))
        return cls(basis, _by_label(surface, count), _by_label(curve, count))

    def correction(self, points: Floats) -> Floats:
        """What a query computes.

        Parameters
        ----------
        points : (N, 3) array
            teff [K], logg, fe_h [dex], none of them missing.

        Returns
        -------
        (N, L) array
            The corrections [label units].
        """
        half, shape = np.asarray(self.basis.half_width), _shape(self.basis)
        offset = np.clip(points - np.asarray(self.basis.center), -half, half)
        place = (offset + half) / SIZE
        cell = np.minimum(np.floor(place).astype(np.int64), np.asarray(shape) - 1)
        u, v, w = (place - cell - 0.5).T
        powers = np.stack([u**i * v**j for i, j in SURFACE_POWERS], axis=1)
        slow = powers[:, : len(INTERACTION_POWERS)] * (offset / half)[:, 2:]
        terms = np.concatenate([powers, slow], axis=1)
        surface = self.surface[cell[:, 0] * shape[1] + cell[:, 1]]
        curve = self.curve[cell[:, 2]]
        result = np.einsum("nk,nlk->nl", terms, surface, optimize=True)
        result += np.einsum(
            "nk,nlk->nl", np.stack([w**k for k in CURVE_POWERS], axis=1), curve, optimize=True
        )
        return np.asarray(result)


def tabulation(basis: SmoothBasis) -> dict[str, Any]:
    """Sizes and numbers of the cells in teff, logg and fe_h; the first begins at the box's lower wall."""
    return {"size": SIZE.tolist(), "shape": list(_shape(basis))}


def _shape(basis: SmoothBasis) -> tuple[int, int, int]:
    n = np.ceil(2 * np.asarray(basis.half_width) / SIZE - 1e-9).astype(int)
    return int(n[0]), int(n[1]), int(n[2])


def _polynomials(values: Floats, nodes: Floats, powers: tuple[tuple[int, ...], ...]) -> Floats:
    """(cells, terms, L) least-squares polynomials of `values`, (cells * nodes, L), at the (m, d) nodes."""
    design = np.stack([np.prod(nodes ** np.asarray(power), axis=1) for power in powers], axis=1)
    cells = values.reshape(-1, len(nodes), values.shape[1])
    return np.asarray(np.einsum("tm,cml->ctl", np.linalg.pinv(design), cells, optimize=True))


def _by_label(polynomials: Floats, count: int) -> NDArray[np.float32]:
    """(cells, L, terms) in single precision: its rounding is a hundredth of what is left."""
    return np.ascontiguousarray(np.moveaxis(polynomials, 1, 2), dtype=np.float32)
