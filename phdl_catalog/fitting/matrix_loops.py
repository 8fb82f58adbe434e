"""Loops over the small matrices of a fit, one star after the other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from phdl_catalog.spectra import loops

#: Rows of derivatives that are multiplied with each other at one time.
_BLOCK = 4

#: Smallest square of a diagonal element of a factor.
_LEAST = 1e-14

#: Pixels whose products are summed in single precision.
_STRETCH = 1024


def gram(rows: Tensor) -> Tensor:
    """Sums (N, D, D), float64, of the products of all rows (N, D, Q) of a star with each other."""
    if not loops.wanted(rows.device):
        return torch.bmm(rows, rows.mT).double()
    out = loops.empty(len(rows), rows.shape[1], rows.shape[1], dtype=torch.float64)
    loops.for_stars(_gram, len(rows), rows, out)
    return out


@loops.compiled
def _factorise(matrix, held, out):
    """Cholesky's factor of a matrix; rows and columns that are held are those of the unit matrix."""
    for i in range(len(out)):
        row = out[i]
        for j in range(i):
            if held[i] or held[j]:
                row[j] = 0.0
                continue
            total, other = matrix[i, j], out[j]
            for k in range(j):
                total -= row[k] * other[k]
            row[j] = total / other[j]
        total = 1.0 if held[i] else matrix[i, i]
        for k in range(i):
            total -= row[k] * row[k]
        # A direction without any curvature stays at rest.
        row[i] = np.sqrt(total) if total > _LEAST else np.inf


@loops.compiled
def _solve(factor, x):
    """Solve for one right-hand side, in its place."""
    for i in range(len(x)):
        total, row = x[i], factor[i]
        for k in range(i):
            total -= row[k] * x[k]
        x[i] = total / row[i]
    for i in range(len(x) - 1, -1, -1):
        row = factor[i]
        x[i] /= row[i]
        for k in range(i):
            x[k] -= row[k] * x[i]


@loops.compiled
def _hold(matrix, right, low, high, x, held, face):
    """Hold the parameters that a step down the gradient at `x` would take to a face; whether others were."""
    changed = False
    for i in range(len(x)):
        pushed = x[i] + right[i]
        for k in range(len(x)):
            pushed -= matrix[i, k] * x[k]
        hold = pushed <= low[i] or pushed >= high[i]
        at = 0.0
        if hold:
            at = low[i] if pushed <= low[i] else high[i]
        changed = changed or hold != held[i] or at != face[i]
        held[i], face[i] = hold, at
    return changed


@loops.compiled
def _descend(matrix, right, low, high, x):
    """Minimise along one parameter after the other, once."""
    for i in range(len(x)):
        along = right[i]
        for k in range(len(x)):
            along -= matrix[i, k] * x[k]
        x[i] = min(max(x[i] + along / matrix[i, i], low[i]), high[i])


@loops.compiled
def _value(matrix, right, x):
    """Of the quadratic function at `x`."""
    value = 0.0
    for i in range(len(x)):
        along = 0.0
        for k in range(len(x)):
            along += matrix[i, k] * x[k]
        value += x[i] * (0.5 * along - right[i])
    return value


@loops.compiled
def active_set(first, stop, matrix, right, low, high, rounds, passes, sweeps, best):
    """The minimum in a box by the primal-dual active-set method (Hintermueller et al. 2002).

    Its passes find the exact minimum nearly always, but may go in circles.  Then a few sweeps of coordinate
    descent from the best point that they found, which cannot, say where the next round begins.
    All arrays are float64: matrices (N, D, D), the rest (N, D).
    """
    size = right.shape[1]
    factor = np.zeros((size, size))
    held, face = np.zeros(size, np.bool_), np.zeros(size)
    solution, inside = np.empty(size), np.empty(size)
    for n in range(first, stop):
        best[n] = 0.0
        lowest = 0.0
        held[:] = False
        face[:] = 0.0
        box = (low[n], high[n])
        for number in range(rounds):
            if number > 0:
                for _ in range(sweeps):
                    _descend(matrix[n], right[n], *box, best[n])
                lowest = _value(matrix[n], right[n], best[n])
                _hold(matrix[n], right[n], *box, best[n], held, face)
            changed = False
            for _ in range(passes):
                for i in range(size):
                    total = right[n, i]
                    for k in range(size):
                        total -= matrix[n, i, k] * face[k]
                    solution[i] = face[i] if held[i] else total
                _factorise(matrix[n], held, factor)
                _solve(factor, solution)
                for i in range(size):
                    inside[i] = min(max(solution[i], low[n, i]), high[n, i])
                value = _value(matrix[n], right[n], inside)
                if value < lowest:
                    lowest = value
                    best[n] = inside
                changed = _hold(matrix[n], right[n], *box, solution, held, face)
                if not changed:
                    break
            if not changed:
                break


@loops.compiled
def update(first, stop, curvature, step, change, least, out):
    """Curvatures that agree with the change of the gradient along a step (damped BFGS; Powell 1978)."""
    size = step.shape[1]
    expected, seen = np.empty(size), np.empty(size)
    for n in range(first, stop):
        along_expected = along_change = 0.0
        for i in range(size):
            total = 0.0
            for k in range(size):
                total += curvature[n, i, k] * step[n, k]
            expected[i] = total
            along_expected += step[n, i] * total
            along_change += step[n, i] * change[n, i]
        mix = 1.0
        if along_change < least * along_expected:
            mix = (1.0 - least) * along_expected / max(along_expected - along_change, 1e-30)
        along_seen = 0.0
        for i in range(size):
            seen[i] = mix * change[n, i] + (1.0 - mix) * expected[i]
            along_seen += step[n, i] * seen[i]
        out[n] = curvature[n]
        if along_expected > 1e-20 and along_seen > 1e-20:
            for i in range(size):
                a, b = seen[i] / along_seen, expected[i] / along_expected
                for k in range(size):
                    out[n, i, k] += a * seen[k] - b * expected[k]


@loops.compiled
def _products(a, b, c, d, w, x, y, z, out):
    """Sums of the products of four rows with four rows."""
    aw = ax = ay = az = bw = bx = by = bz = np.float32(0.0)
    cw = cx = cy = cz = dw = dx = dy = dz = np.float32(0.0)
    for p in range(len(a)):
        aw += a[p] * w[p]
        ax += a[p] * x[p]
        ay += a[p] * y[p]
        az += a[p] * z[p]
        bw += b[p] * w[p]
        bx += b[p] * x[p]
        by += b[p] * y[p]
        bz += b[p] * z[p]
        cw += c[p] * w[p]
        cx += c[p] * x[p]
        cy += c[p] * y[p]
        cz += c[p] * z[p]
        dw += d[p] * w[p]
        dx += d[p] * x[p]
        dy += d[p] * y[p]
        dz += d[p] * z[p]
    out[0, 0], out[0, 1], out[0, 2], out[0, 3] = aw, ax, ay, az
    out[1, 0], out[1, 1], out[1, 2], out[1, 3] = bw, bx, by, bz
    out[2, 0], out[2, 1], out[2, 2], out[2, 3] = cw, cx, cy, cz
    out[3, 0], out[3, 1], out[3, 2], out[3, 3] = dw, dx, dy, dz


@loops.compiled
def _four(rows, i, start, end):
    """A stretch of four rows; of the last one again where there are no more."""
    last = len(rows) - 1
    j, k, m = min(i + 1, last), min(i + 2, last), min(i + 3, last)
    return rows[i][start:end], rows[j][start:end], rows[k][start:end], rows[m][start:end]


@loops.compiled
def _gram(first, stop, rows, out):
    size, pixels = rows.shape[1:]
    part = np.empty((_BLOCK, _BLOCK))
    for n in range(first, stop):
        these = rows[n]
        out[n] = 0.0
        # Sums in single precision are short, so that nothing is lost.
        for start in range(0, pixels, _STRETCH):
            end = min(start + _STRETCH, pixels)
            for i in range(0, size, _BLOCK):
                a, b, c, d = _four(these, i, start, end)
                for j in range(0, i + 1, _BLOCK):
                    w, x, y, z = _four(these, j, start, end)
                    _products(a, b, c, d, w, x, y, z, part)
                    for k in range(min(_BLOCK, size - i)):
                        for m in range(min(_BLOCK, size - j)):
                            out[n, i + k, j + m] += part[k, m]
        for i in range(size):
            for j in range(i):
                out[n, j, i] = out[n, i, j]
