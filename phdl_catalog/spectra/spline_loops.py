"""The loops behind `phdl_catalog.spectra.splines`.

The splines of some pixels come as `values` (4, P), float32, of those four that are not zero; `edges` (I + 1,)
of the stretches between knots; and `starts` (I,), the first of the four splines there.  Other arrays of
pixels are float32, coefficients and matrices float64.  A banded matrix has its element (i, i - k) at [i, k].
"""

from __future__ import annotations

import numpy as np

from phdl_catalog.spectra import loops


@loops.compiled
def _four(values, first, stop):
    """The four splines of a stretch."""
    return values[0][first:stop], values[1][first:stop], values[2][first:stop], values[3][first:stop]


@loops.compiled
def curve(coefficients, values, edges, starts, out):
    """One curve."""
    for part in range(len(starts)):
        row = starts[part]
        a, b = np.float32(coefficients[row]), np.float32(coefficients[row + 1])
        c, d = np.float32(coefficients[row + 2]), np.float32(coefficients[row + 3])
        first, stop = edges[part], edges[part + 1]
        va, vb, vc, vd = _four(values, first, stop)
        target = out[first:stop]
        for p in range(len(target)):
            target[p] = (a * va[p] + b * vb[p]) + (c * vc[p] + d * vd[p])


@loops.compiled
def pull(given, values, edges, starts, out):
    """Sums of one row of given numbers times each spline."""
    out[:] = 0.0
    for part in range(len(starts)):
        row = starts[part]
        a = b = c = d = np.float32(0.0)
        first, stop = edges[part], edges[part + 1]
        va, vb, vc, vd = _four(values, first, stop)
        these = given[first:stop]
        for p in range(len(these)):
            a += these[p] * va[p]
            b += these[p] * vb[p]
            c += these[p] * vc[p]
            d += these[p] * vd[p]
        out[row] += a
        out[row + 1] += b
        out[row + 2] += c
        out[row + 3] += d


@loops.compiled
def normal_matrix(weight, values, edges, starts, out):
    """Sums of one row of weights times each two splines."""
    out[:] = 0.0
    for part in range(len(starts)):
        row = starts[part]
        aa = ab = ac = ad = bb = bc = bd = cc = cd = dd = np.float32(0.0)
        first, stop = edges[part], edges[part + 1]
        va, vb, vc, vd = _four(values, first, stop)
        these = weight[first:stop]
        for p in range(len(these)):
            a, b, c, d = va[p], vb[p], vc[p], vd[p]
            wa, wb, wc, wd = these[p] * a, these[p] * b, these[p] * c, these[p] * d
            aa += wa * a
            ab += wa * b
            ac += wa * c
            ad += wa * d
            bb += wb * b
            bc += wb * c
            bd += wb * d
            cc += wc * c
            cd += wc * d
            dd += wd * d
        out[row, 0] += aa
        out[row + 1, 0] += bb
        out[row + 1, 1] += ab
        out[row + 2, 0] += cc
        out[row + 2, 1] += bc
        out[row + 2, 2] += ac
        out[row + 3, 0] += dd
        out[row + 3, 1] += cd
        out[row + 3, 2] += bd
        out[row + 3, 3] += ad


@loops.compiled
def factorise(matrix):
    """Cholesky's factor of one banded matrix, in its place."""
    for i in range(len(matrix)):
        for k in range(min(i, 3), 0, -1):
            total = matrix[i, k]
            for m in range(1, min(3 - k, i - k) + 1):
                total -= matrix[i, k + m] * matrix[i - k, m]
            matrix[i, k] = total * matrix[i - k, 0]
        total = matrix[i, 0]
        for k in range(1, min(i, 3) + 1):
            total -= matrix[i, k] ** 2
        matrix[i, 0] = 1.0 / np.sqrt(total)


@loops.compiled
def forward(lower, right):
    """Columns (J, R) times the inverse of a factor, in their place."""
    for i in range(len(right)):
        here = right[i]
        for k in range(1, min(i, 3) + 1):
            factor, before = lower[i, k], right[i - k]
            for r in range(len(here)):
                here[r] -= factor * before[r]
        for r in range(len(here)):
            here[r] *= lower[i, 0]


@loops.compiled
def backward(lower, right):
    """Columns (J, R) times the inverse of the transpose of a factor, in their place."""
    for i in range(len(right) - 1, -1, -1):
        here = right[i]
        for r in range(len(here)):
            here[r] *= lower[i, 0]
        for k in range(1, min(i, 3) + 1):
            factor, before = lower[i, k], right[i - k]
            for r in range(len(here)):
                before[r] -= factor * here[r]


@loops.compiled
def curves(first, stop, coefficients, values, edges, starts, out):
    for n in range(first, stop):
        curve(coefficients[n], values, edges, starts, out[n])


@loops.compiled
def pulls(first, stop, given, values, edges, starts, out):
    for n in range(first, stop):
        pull(given[n], values, edges, starts, out[n])


@loops.compiled
def _system(weight, stiffness, stiff, values, edges, starts, lower):
    """The factor of one regularised normal matrix; its regularisation is returned."""
    normal_matrix(weight, values, edges, starts, lower)
    level = lower[:, 0].sum() / len(lower)
    level = stiff * (level if level > 0.0 else 1.0)
    for i in range(len(lower)):
        for k in range(lower.shape[1]):
            lower[i, k] += level * stiffness[i, k]
    factorise(lower)
    return level


@loops.compiled
def systems(first, stop, weight, stiffness, stiff, values, edges, starts, lower, level):
    for n in range(first, stop):
        level[n] = _system(weight[n], stiffness, stiff, values, edges, starts, lower[n])


@loops.compiled
def solve_all(first, stop, target, shape, weight, stiffness, stiff, values, edges, starts,
           coefficients, lower, level):  # fmt: skip
    pixels = target.shape[1]
    work = np.empty(pixels, np.float32)
    right = np.empty((coefficients.shape[1], 1))
    for n in range(first, stop):
        t, f, w = target[n], shape[n], weight[n]
        for p in range(pixels):
            work[p] = w[p] * f[p] * f[p]
        level[n] = _system(work, stiffness, stiff, values, edges, starts, lower[n])
        for p in range(pixels):
            work[p] = w[p] * f[p] * t[p]
        pull(work, values, edges, starts, right[:, 0])
        forward(lower[n], right)
        backward(lower[n], right)
        coefficients[n] = right[:, 0]


@loops.compiled
def forward_all(first, stop, lower, right):
    for n in range(first, stop):
        forward(lower[n], right[n])


@loops.compiled
def backward_all(first, stop, lower, right):
    for n in range(first, stop):
        backward(lower[n], right[n])
