"""The loops over pixels that a fit spends its time in, one star after the other.

All arrays are float32 but those of splines, costs and sums (float64); shapes are those of the callers in
`phdl_catalog.fitting.kernel` and `phdl_catalog.fitting.objective`.
"""

from __future__ import annotations

import numpy as np

from phdl_catalog.spectra import loops
from phdl_catalog.spectra.spline_loops import backward, curve, forward, pull

#: Taps of a filter, and how many lie to either side of the middle.
TAPS = 17
REACH = 8


@loops.compiled
def convolve(source, taps, out):
    """One filtered spectrum; the source begins and ends `REACH` pixels outside."""
    for p in range(len(out)):
        total = np.float32(0.0)
        for k in range(TAPS):
            total += taps[k] * source[p + k]
        out[p] = total


@loops.compiled
def filter_spectra(first, stop, source, taps, moved, by_shift, by_blur):
    """Moved and blurred spectra, and their derivatives."""
    for n in range(first, stop):
        convolve(source[n], taps[n, 0], moved[n])
        convolve(source[n], taps[n, 1], by_shift[n])
        convolve(source[n], taps[n, 2], by_blur[n])


@loops.compiled
def filter_rows(first, stop, source, taps, out):
    """Moved and blurred rows of each star."""
    for n in range(first, stop):
        for row in range(source.shape[1]):
            convolve(source[n, row], taps[n, 0], out[n, row])


@loops.compiled
def spread_spectra(first, stop, values, taps, out):
    """The transposed filter."""
    pixels = values.shape[1]
    padded = np.zeros(pixels + 2 * (TAPS - 1), np.float32)
    turned = np.empty(TAPS, np.float32)
    for n in range(first, stop):
        padded[TAPS - 1 : TAPS - 1 + pixels] = values[n]
        turned[:] = taps[n, 0, ::-1]
        convolve(padded, turned, out[n])


@loops.compiled
def _band_product(matrix, x, scale, out):
    """Take scale times a symmetric banded matrix times x from `out`."""
    for i in range(len(x)):
        total = matrix[i, 0] * x[i]
        for k in range(1, min(i, 3) + 1):
            total += matrix[i, k] * x[i - k]
            out[i - k, 0] -= scale * matrix[i, k] * x[i]
        out[i, 0] -= scale * total


@loops.compiled
def try_spectra(
    first, stop, source, taps, flux, weight, which, known, lower, level, stiffness, values, edges, starts,
    cost, found, sums, back,
):  # fmt: skip
    """Price of trial spectra, and the way back to the gradient.

    Stars have the rows `which` of `flux` and `weight`.
    The pseudo-continuum with the coefficients `known` is improved by one step with the factor `lower` of a
    similar model; `found` are the new ones.  `sums` are those of the derivatives by shift and blur; `back` is
    what has to be multiplied with the basis.
    """
    pixels = flux.shape[1]
    model, level_here = np.empty(pixels, np.float32), np.empty(pixels, np.float32)
    work = np.empty(pixels, np.float32)
    padded = np.zeros(pixels + 2 * (TAPS - 1), np.float32)
    inner = padded[TAPS - 1 : TAPS - 1 + pixels]
    turned = np.empty(TAPS, np.float32)
    right = np.empty((known.shape[1], 1))
    for n in range(first, stop):
        data, w = flux[which[n]], weight[which[n]]
        convolve(source[n], taps[n, 0], model)
        curve(known[n], values, edges, starts, level_here)
        for p in range(pixels):
            work[p] = w[p] * model[p] * (data[p] - level_here[p] * model[p])
        pull(work, values, edges, starts, right[:, 0])
        _band_product(stiffness, known[n], level[n], right)
        forward(lower[n], right)
        backward(lower[n], right)
        for j in range(len(right)):
            found[n, j] = known[n, j] + right[j, 0]
        curve(found[n], values, edges, starts, level_here)
        total = 0.0
        for p in range(pixels):
            residual = data[p] - level_here[p] * model[p]
            weighted = w[p] * residual
            total += weighted * residual
            inner[p] = weighted * level_here[p]
        cost[n] = total
        for by in range(2):
            convolve(source[n], taps[n, 1 + by], work)
            product = 0.0
            for p in range(pixels):
                product += work[p] * inner[p]
            sums[n, by] = product
        turned[:] = taps[n, 0, ::-1]
        convolve(padded, turned, back[n])


@loops.compiled
def scale_rows(first, stop, which, rows, taps, others, level, model, root, values, edges, starts,
               out, cross):  # fmt: skip
    """Derivatives in units of the noise, and what the splines have in common with each.

    The rows of a star are those of number `which`.  Rows longer than `out` are moved and blurred, `others`,
    which follow them, are not.  `level` is the pseudo-continuum, `root` the root of the weight; row by row
    ``out = derivative * level * root`` and ``cross`` the sums of ``out * model * root``.
    """
    number, pixels = rows.shape[1], out.shape[2]
    scale, shape = np.empty(pixels, np.float32), np.empty(pixels, np.float32)
    work = np.empty(pixels, np.float32)
    column = np.empty(cross.shape[1])
    filtered = rows.shape[2] > pixels
    for n in range(first, stop):
        for p in range(pixels):
            scale[p] = level[n, p] * root[n, p]
            shape[p] = model[n, p] * root[n, p]
        for row in range(number + others.shape[1]):
            target = out[n, row]
            if row >= number:
                target[:] = others[n, row - number]
            elif filtered:
                convolve(rows[which[n], row], taps[n, 0], target)
            else:
                target[:] = rows[which[n], row]
            for p in range(pixels):
                target[p] *= scale[p]
                work[p] = target[p] * shape[p]
            pull(work, values, edges, starts, column)
            for j in range(len(column)):
                cross[n, j, row] = column[j]


@loops.compiled
def take_out(first, stop, rows, model, root, imitating, values, edges, starts, stride, one, other,
             out_one, out_other):  # fmt: skip
    """Derivatives, what splines imitate taken out, at every `stride`-th pixel, times `one` and `other`."""
    pixels = out_one.shape[2]
    work = np.empty(pixels, np.float32)
    shape = np.empty(pixels, np.float32)
    for n in range(first, stop):
        for p in range(pixels):
            shape[p] = model[n, p * stride] * root[n, p * stride]
        for row in range(rows.shape[1]):
            curve(imitating[n, :, row], values, edges, starts, work)
            source, first_out, second_out = rows[n, row], out_one[n, row], out_other[n, row]
            for p in range(pixels):
                alone = source[p * stride] - work[p] * shape[p]
                first_out[p] = alone * one[n, p]
                second_out[p] = alone * other[n, p]


@loops.compiled
def weigh_pixels(first, stop, variance, model_variance, use, level, residual, floor2, band, correlation,
                 limit2, out_variance, out_weight):  # fmt: skip
    """Variances of pixels, and weights, less for outliers.

    `level` is the pseudo-continuum, `floor2` the squared error floor of each band, `band` that of a pixel;
    a deviation whose square is beyond `limit2` loses weight.
    """
    pixels = variance.shape[1]
    spread = np.empty(pixels, np.float32)
    for n in range(first, stop):
        for p in range(pixels):
            spread[p] = floor2[n, band[p]]
        for p in range(pixels):
            level2 = level[n, p] * level[n, p]
            total = variance[n, p] + (correlation * model_variance[n, p] + spread[p]) * level2
            inverse = use[n, p] / total
            ratio = limit2 / max(residual[n, p] * residual[n, p] * inverse, limit2)
            out_variance[n, p] = total
            out_weight[n, p] = inverse * ratio * ratio


@loops.compiled
def _chi2(residual2, variance, continuum2, use, floor2, limit2):
    """Sum of clipped squared deviations with an error floor."""
    total = np.float32(0.0)
    for p in range(len(use)):
        total += use[p] * min(residual2[p] / (variance[p] + floor2 * continuum2[p]), limit2)
    return total


@loops.compiled
def find_floors(first, stop, residual2, variance, continuum2, use, edges, limit2, smallest, largest, steps,
                floor2):  # fmt: skip
    """Squared error floors of bands that want one, by bisection, and 0 of others; `edges` are the bands'."""
    for n in range(first, stop):
        for m in range(len(edges) - 1):
            band = slice(edges[m], edges[m + 1])
            r2, v, c2, u = residual2[n, band], variance[n, band], continuum2[n, band], use[n, band]
            number, floor2[n, m] = u.sum(), 0.0
            wanted = _chi2(r2, v, c2, u, np.float32(0.0), limit2) - number > 3.0 * np.sqrt(2.0 * number)
            lower, upper = np.log(smallest), np.log(largest)
            for _ in range(steps if wanted else 0):
                middle = (lower + upper) / 2.0
                if _chi2(r2, v, c2, u, np.float32(np.exp(middle)), limit2) > number:
                    lower = middle
                else:
                    upper = middle
            if wanted:
                floor2[n, m] = np.exp(upper)
