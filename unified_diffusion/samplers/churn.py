"""Churn: noise that is added before a step and removed within it."""

import numpy as np

from unified_diffusion.errors import UserError


def check_churn(churn, churn_min, churn_max, churn_noise):
    """Raises UserError for settings of the churn that are negative or contradict each other."""
    if min(churn, churn_min, churn_noise) < 0:
        raise UserError(f"churn = {churn}, churn_min = {churn_min}, churn_noise = {churn_noise}: none may be negative")
    if churn_max is not None and churn_max < churn_min:
        raise UserError(f"churn_max = {churn_max} is below churn_min = {churn_min}: there would be no churn at all")


def churned(process, times, churn, churn_min, churn_max):
    """(t_hat, scale, noise), each `[steps]`: the forward process from t up to t_hat is x_hat = scale x_t + noise z.

    At t_hat, sigma / alpha is (1 + gamma) times its value at t, but never more than at the last level. gamma =
    min(churn / steps, sqrt(2) - 1) where sigma / alpha lies in [churn_min, churn_max], and 0 elsewhere (Karras et al.
    2022, algorithm 2, lines 2, 5 and 6).

    Args:
        process: the perturbation, in continuous time.
        times: the t of the steps.
        churn, churn_min, churn_max: S_churn, S_tmin and S_tmax of the paper; churn_max None is no limit.
    """
    level = process.exact(times)
    sigma = level.noise_to_signal
    inside = (sigma >= churn_min) & (sigma <= (np.inf if churn_max is None else churn_max))
    gamma = np.where(inside, min(churn / len(times), np.sqrt(2) - 1), 0)
    raised = np.maximum(level.log_snr - 2 * np.log1p(gamma), process.exact(process.times[-1]).log_snr)
    t_hat = np.where(gamma > 0, np.maximum(process.time_of(raised), times), times)
    hat = process.exact(t_hat)
    return t_hat, hat.alpha / level.alpha, hat.sigma * np.sqrt(-np.expm1(hat.log_snr - level.log_snr))
