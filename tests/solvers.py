"""The samplers as their papers write them, in float64 NumPy: whole runs, each x on the way.

Each takes `x0`, a function (x, alpha, sigma) -> E[x_0 | x]; `levels`, the (alpha, sigma) of each time, the noisiest
first and (1, 0) last; and the first x. It returns `[steps + 1, B, D]`. Noises `z` are `[steps, B, D]`.
"""

import numpy as np

NODES, WEIGHTS = np.polynomial.legendre.leggauss(30)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2  # on [0, 1]


def ddim(x0, levels, x, z, eta=0.0):
    """Song, Meng & Ermon 2021, eq. 12 and 16, where alpha-bar is alpha² and 1 - alpha-bar is sigma²."""
    found = [x]
    for (alpha_t, sigma_t), (alpha_s, sigma_s), noise in zip(levels[:-1], levels[1:], z, strict=True):
        predicted = x0(x, alpha_t, sigma_t)
        eps = (x - alpha_t * predicted) / sigma_t
        deviation = eta * (sigma_s / sigma_t) * np.sqrt(sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2)
        x = alpha_s * predicted + np.sqrt(sigma_s**2 - deviation**2) * eps + deviation * noise
        found.append(x)
    return np.array(found)


def edm(x0, levels, x, z, churn=0.0, churn_min=0.0, churn_max=np.inf, churn_noise=1.0, second_order=True):
    """Karras et al. 2022, algorithm 2, in x / alpha; no noise is raised above the first sigma."""
    sigmas = [sigma / alpha for alpha, sigma in levels]
    steps = len(sigmas) - 1
    x = x / levels[0][0]
    found = [x]
    for i in range(steps):
        gamma = min(churn / steps, np.sqrt(2) - 1) if churn_min <= sigmas[i] <= churn_max else 0.0
        sigma_hat = min(sigmas[i] * (1 + gamma), sigmas[0])
        x_hat = x + np.sqrt(sigma_hat**2 - sigmas[i] ** 2) * churn_noise * z[i]
        d = (x_hat - x0(x_hat, 1.0, sigma_hat)) / sigma_hat
        x = x_hat + (sigmas[i + 1] - sigma_hat) * d
        if sigmas[i + 1] > 0 and second_order:
            d_next = (x - x0(x, 1.0, sigmas[i + 1])) / sigmas[i + 1]
            x = x_hat + (sigmas[i + 1] - sigma_hat) * (d / 2 + d_next / 2)
        found.append(x)
    return np.array(found) * np.array([alpha for alpha, _ in levels])[:, None, None]


def dpm_solver(x0, levels, x, z, order=2, stochastic=False):
    """Lu et al. 2022b: eq. 8 (ODE) and its like for the SDE, with algorithm 2's D; of order 3 by quadrature."""
    found, lambdas, predicted = [x], [], []
    for (alpha_t, sigma_t), (alpha_s, sigma_s), noise in zip(levels[:-1], levels[1:], z, strict=True):
        lambdas.append(np.log(alpha_t / sigma_t))
        predicted.append(x0(x, alpha_t, sigma_t))
        possible = min(len(predicted), order)
        if sigma_s == 0:
            x = predicted[-1]
        else:
            h = np.log(alpha_s / sigma_s) - lambdas[-1]
            decay, shrink, deviation = (
                (np.exp(-2 * h), np.exp(-h), sigma_s * np.sqrt(1 - np.exp(-2 * h)))
                if stochastic
                else (np.exp(-h), 1, 0)
            )
            if possible == 1:
                integral = (1 - decay) * predicted[-1]
            elif possible == 2:
                r = (lambdas[-1] - lambdas[-2]) / h
                integral = (1 - decay) * ((1 + 1 / (2 * r)) * predicted[-1] - 1 / (2 * r) * predicted[-2])
            else:
                integral = -np.log(decay) * integrated(lambdas[-3:], predicted[-3:], h, decay)
            x = shrink * sigma_s / sigma_t * x + alpha_s * integral + deviation * noise
        found.append(x)
    return np.array(found)


def integrated(lambdas, values, h, decay, start=-1):
    """∫_0^1 decay^(1 - u) p(u) du of the polynomial p through `values`, u = (lambda - lambdas[start]) / h."""
    at = (np.array(lambdas) - lambdas[start]) / h
    total = 0.0
    for u, weight in zip(NODES, WEIGHTS, strict=True):
        lagrange = [np.prod([(u - b) / (a - b) for j, b in enumerate(at) if j != i]) for i, a in enumerate(at)]
        total = total + weight * decay ** (1 - u) * sum(c * v for c, v in zip(lagrange, values, strict=True))
    return total


def unipc(x0, levels, x, order=2, variant="bh2"):
    """Zhao et al. 2023, algorithms 1 and 2 with data prediction; where coefficients are solved for, by quadrature.

    The x found are those predicted, which the corrector has not seen.
    """
    found, lambdas, predicted, before = [x], [], [], None
    for i, ((alpha_t, sigma_t), (alpha_s, sigma_s)) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        lambdas.append(np.log(alpha_t / sigma_t))
        predicted.append(x0(x, alpha_t, sigma_t))
        if i:
            p = min(i, order)  # of the step before, whose end is here
            h = lambdas[-1] - lambdas[-2]
            if p == 1:
                b_h = h if variant == "bh1" else 1 - np.exp(-h)
                integral = (1 - np.exp(-h)) * predicted[-2] + b_h / 2 * (predicted[-1] - predicted[-2])
            else:
                integral = h * integrated(lambdas[-p - 1 :], predicted[-p - 1 :], h, np.exp(-h), start=-2)
            _, before_sigma = levels[i - 1]
            x = sigma_t / before_sigma * before + alpha_t * integral
        before = x
        if sigma_s == 0:
            x = predicted[-1]
        else:
            p = min(i + 1, order)
            h = np.log(alpha_s / sigma_s) - lambdas[-1]
            if p == 2:
                r = (lambdas[-2] - lambdas[-1]) / h
                b_h = h if variant == "bh1" else 1 - np.exp(-h)
                integral = (1 - np.exp(-h)) * predicted[-1] + b_h / 2 * (predicted[-2] - predicted[-1]) / r
            else:
                integral = h * integrated(lambdas[-p:], predicted[-p:], h, np.exp(-h))
            x = sigma_s / sigma_t * x + alpha_s * integral
        found.append(x)
    return np.array(found)


def pndm(x0, levels, middles, x):
    """Liu et al. 2022, algorithm 2: three pseudo Runge-Kutta steps through `middles`, then Adams-Bashforth ones."""

    def eps(x, level):
        return (x - level[0] * x0(x, *level)) / level[1]

    def phi(x, e, level, to):
        return to[0] * (x / level[0] + (to[1] / to[0] - level[1] / level[0]) * e)

    found, ets = [x], []
    for i, (level, to) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        ets.append(eps(x, level))
        if i == len(levels) - 2:
            mean = ets[-1]
        elif i < 3:
            e_2 = eps(phi(x, ets[-1], level, middles[i]), middles[i])
            e_3 = eps(phi(x, e_2, level, middles[i]), middles[i])
            e_4 = eps(phi(x, e_3, level, to), to)
            mean = ets[-1] / 6 + e_2 / 3 + e_3 / 3 + e_4 / 6
        else:
            mean = np.tensordot([55 / 24, -59 / 24, 37 / 24, -9 / 24], ets[:-5:-1], 1)
        x = phi(x, mean, level, to)
        found.append(x)
    return np.array(found)
