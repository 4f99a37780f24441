"""The 18 least-squares problems of MINPACK's test suite and its 53 standard cases.

Source: J. J. More, B. S. Garbow, K. E. Hillstrom, "Testing unconstrained
optimization software", ACM Trans. Math. Softw. 7(1), 17-41 (1981).  Every function
takes ``(x, xp)`` with xp NumPy or jax.numpy; the number of residuals and of
parameters are the case's.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

BARD = [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39]
KOWALIK_V = [4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625]
KOWALIK_Y = [0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
MEYER = [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744]
MEYER += [8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872]
OSBORNE_1 = [844, 908, 932, 936, 925, 908, 881, 850, 818, 784, 751, 718, 685, 658, 628, 603, 580]
OSBORNE_1 += [558, 538, 522, 506, 490, 478, 467, 457, 448, 438, 431, 424, 420, 414, 411, 406]
OSBORNE_2 = [1366, 1191, 1112, 1013, 991, 885, 831, 847, 786, 725, 746, 679, 608, 655, 616, 606]
OSBORNE_2 += [602, 626, 651, 724, 649, 649, 694, 644, 624, 661, 612, 558, 533, 495, 500, 423, 395]
OSBORNE_2 += [375, 372, 391, 396, 405, 428, 429, 523, 562, 607, 653, 672, 708, 633, 668, 645, 632]
OSBORNE_2 += [591, 559, 597, 625, 739, 710, 729, 720, 636, 581, 428, 292, 162, 98, 54]


def linear_full_rank(x, xp, m):
    n = x.shape[0]
    shift = -(2 * xp.sum(x) / m + 1)
    return xp.concatenate([x, np.zeros(m - n)]) + shift


def linear_rank_1(x, xp, m):
    n = x.shape[0]
    return np.arange(1.0, m + 1) * xp.sum(np.arange(1.0, n + 1) * x) - 1


def linear_rank_1_zeros(x, xp, m):
    n = x.shape[0]
    total = xp.sum(np.arange(2.0, n) * x[1:-1])
    rows = np.arange(m, dtype=float)
    rows[-1] = 0
    return rows * total - 1


def rosenbrock(x, xp):
    return xp.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def helical_valley(x, xp):
    at_zero = x[0] == 0
    turn = xp.arctan(x[1] / xp.where(at_zero, 1.0, x[0])) / (2 * np.pi)
    turn = xp.where(x[0] < 0, turn + 0.5, turn)
    turn = xp.where(at_zero, xp.where(x[1] < 0, -0.25, 0.25), turn)
    return xp.stack([10 * (x[2] - 10 * turn), 10 * (xp.sqrt(x[0] ** 2 + x[1] ** 2) - 1), x[2]])


def powell_singular(x, xp):
    a, b, c, d = x
    return xp.stack(
        [a + 10 * b, np.sqrt(5) * (c - d), (b - 2 * c) ** 2, np.sqrt(10) * (a - d) ** 2]
    )


def freudenstein_roth(x, xp):
    a, b = x
    return xp.stack([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((1 + b) * b - 14) * b])


def bard(x, xp):
    u = np.arange(1.0, 16)
    v = 16 - u
    return np.array(BARD) - (x[0] + u / (x[1] * v + x[2] * np.minimum(u, v)))


def kowalik_osborne(x, xp):
    v = np.array(KOWALIK_V)
    return np.array(KOWALIK_Y) - x[0] * (v * (v + x[1])) / (v * (v + x[2]) + x[3])


def meyer(x, xp):
    return x[0] * xp.exp(x[1] / (5 * np.arange(1.0, 17) + 45 + x[2])) - np.array(MEYER, float)


def watson(x, xp):
    n = x.shape[0]
    powers = (np.arange(1, 30) / 29)[:, None] ** np.arange(n)
    slope = xp.sum(np.arange(1.0, n) * powers[:, : n - 1] * x[1:], axis=1)
    value = xp.sum(powers * x, axis=1)
    return xp.concatenate([slope - value**2 - 1, xp.stack([x[0], x[1] - x[0] ** 2 - 1])])


def box_3d(x, xp):
    t = np.arange(1.0, 11) / 10
    return xp.exp(-t * x[0]) - xp.exp(-t * x[1]) + (np.exp(-10 * t) - np.exp(-t)) * x[2]


def jennrich_sampson(x, xp):
    t = np.arange(1.0, 11)
    return 2 + 2 * t - xp.exp(t * x[0]) - xp.exp(t * x[1])


def brown_dennis(x, xp):
    t = np.arange(1.0, 21) / 5
    return (x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + np.sin(t) * x[3] - np.cos(t)) ** 2


def chebyquad(x, xp, m):
    previous, current = xp.ones_like(x), 2 * x - 1
    rows = []
    for i in range(1, m + 1):
        integral = 1 / (i * i - 1) if i % 2 == 0 else 0.0
        rows.append(xp.mean(current) + integral)
        previous, current = current, 2 * (2 * x - 1) * current - previous
    return xp.stack(rows)


def brown_almost_linear(x, xp):
    n = x.shape[0]
    return xp.concatenate([x[:-1] + (xp.sum(x) - (n + 1)), xp.stack([xp.prod(x) - 1])])


def osborne_1(x, xp):
    t = 10 * np.arange(33.0)
    model = x[0] + x[1] * xp.exp(-x[3] * t) + x[2] * xp.exp(-x[4] * t)
    return np.array(OSBORNE_1) / 1000 - model


def osborne_2(x, xp):
    t = np.arange(65.0) / 10
    model = x[0] * xp.exp(-x[4] * t)
    for k in range(3):
        model = model + x[1 + k] * xp.exp(-x[5 + k] * (t - x[8 + k]) ** 2)
    return np.array(OSBORNE_2) / 1000 - model


@dataclass(frozen=True)
class Case:
    """A problem, its size and a multiple of its standard starting point."""

    name: str
    fun: object  # (x, xp) -> (m,)
    x0: np.ndarray

    def __str__(self):
        return self.name


def _cases():
    table = [  # name, function, standard start, number of starts
        *[
            (f"{fun.__name__}-{n}x{m}", partial(fun, m=m), np.ones(n), 1)
            for fun in (linear_full_rank, linear_rank_1, linear_rank_1_zeros)
            for n, m in ((5, 10), (5, 50))
        ],
        ("rosenbrock", rosenbrock, [-1.2, 1.0], 3),
        ("helical_valley", helical_valley, [-1.0, 0.0, 0.0], 3),
        ("powell_singular", powell_singular, [3.0, -1.0, 0.0, 1.0], 3),
        ("freudenstein_roth", freudenstein_roth, [0.5, -2.0], 3),
        ("bard", bard, np.ones(3), 3),
        ("kowalik_osborne", kowalik_osborne, [0.25, 0.39, 0.415, 0.39], 3),
        ("meyer", meyer, [0.02, 4000.0, 250.0], 2),
        *[(f"watson-{n}", watson, np.zeros(n), 3) for n in (6, 9, 12)],
        ("box_3d", box_3d, [0.0, 10.0, 20.0], 1),
        ("jennrich_sampson", jennrich_sampson, [0.3, 0.4], 1),
        ("brown_dennis", brown_dennis, [25.0, 5.0, -5.0, -1.0], 3),
        *[
            (f"chebyquad-{n}x{m}", partial(chebyquad, m=m), np.arange(1, n + 1) / (n + 1), k)
            for n, m, k in ((1, 8, 3), (8, 8, 1), (9, 9, 1), (10, 10, 1))
        ],
        *[
            (f"brown_almost_linear-{n}", brown_almost_linear, np.full(n, 0.5), k)
            for n, k in ((10, 3), (30, 1), (40, 1))
        ],
        ("osborne_1", osborne_1, [0.5, 1.5, -1.0, 0.01, 0.02], 1),
        ("osborne_2", osborne_2, [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5], 1),
    ]
    for name, fun, start, tries in table:
        for factor in (1.0, 10.0, 100.0)[:tries]:
            x0 = factor * np.array(start, float)
            if factor != 1 and not np.any(x0):
                x0 = np.full_like(x0, factor)  # the suite's rule for Watson's zero start
            yield Case(f"{name}-x{factor:g}", fun, x0)


CASES = tuple(_cases())
