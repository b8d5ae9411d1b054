"""Independent float64 computations that the float32 library is checked against, one equation at a time."""

import dataclasses

import numpy as np

from unified_diffusion.perturbations import DDPM, NCSN

EPSILON = 2.0**-23  # of float32


@dataclasses.dataclass(frozen=True)
class Chain:
    """x_t = scale_t x_{t-1} + sqrt(variance_t) z, in float64; entry 0 of each array is x_0 itself."""

    scale: np.ndarray
    variance: np.ndarray

    @property
    def num_steps(self):
        return len(self.scale) - 1

    def transition(self, s, t):
        """(scale, variance) of q(x_t | x_s): one step after another, none of which cancels."""
        scale, variance = 1.0, 0.0
        for step in range(s + 1, t + 1):
            scale, variance = scale * self.scale[step], variance * self.scale[step] ** 2 + self.variance[step]
        return scale, variance

    def marginals(self):
        """(alpha, sigma²) of q(x_t | x_0), each `[num_steps + 1]`."""
        alpha, variance = [1.0], [0.0]
        for scale, added in zip(self.scale[1:], self.variance[1:], strict=True):
            alpha.append(alpha[-1] * scale)
            variance.append(variance[-1] * scale**2 + added)
        return np.array(alpha), np.array(variance)

    def posterior(self, s, t):
        """(a, b, variance) of q(x_s | x_t, x_0) = N(a x_0 + b x_t, variance), by Bayes' rule for Gaussians."""
        alpha, variance = self.transition(0, s)
        scale, added = self.transition(s, t)
        if s == 0:
            return 1.0, 0.0, 0.0
        precision = 1 / variance + scale**2 / added
        return alpha / variance / precision, scale / added / precision, 1 / precision


def ddpm_chain(betas):
    """Ho et al. 2020, eq. 2."""
    betas = np.concatenate([[0.0], betas])
    return Chain(np.sqrt(1 - betas), betas)


def ncsn_chain(sigmas):
    """Song et al. 2021, appendix B."""
    steps = np.diff(np.concatenate([[0.0], sigmas]))
    sums = np.convolve(np.concatenate([[0.0], sigmas]), [1, 1], "valid")
    return Chain(np.ones(len(sigmas) + 1), np.concatenate([[0.0], steps * sums]))


def cosine_betas(num_steps):
    """Nichol & Dhariwal 2021, eq. 17, with 1 - cos² b / cos² a = sin(b - a) sin(b + a) / cos² a."""
    angle = (np.arange(num_steps + 1) / num_steps + 0.008) / 1.008 * np.pi / 2
    a, b = angle[:-1], angle[1:]
    return np.minimum(np.sin(b - a) * np.sin(b + a) / np.cos(a) ** 2, 0.999)


def geometric(first, last, num_steps):
    return np.array([first * (last / first) ** (i / (num_steps - 1)) for i in range(num_steps)])


UNEVEN_BETAS = (0.3, 0.01, 0.5, 0.001, 0.9)
UNEVEN_SIGMAS = (0.1, 0.11, 2.0, 3.0, 50.0)

PROCESSES = {
    "ddpm": (DDPM(), ddpm_chain([1e-4 + i * (0.02 - 1e-4) / 999 for i in range(1000)])),
    "ddpm-cosine": (DDPM(schedule="cosine"), ddpm_chain(cosine_betas(1000))),
    "ddpm-cosine-short": (DDPM(8, "cosine"), ddpm_chain(cosine_betas(8))),
    "ddpm-short": (DDPM(4, beta_start=0.1, beta_end=0.7), ddpm_chain([0.1, 0.3, 0.5, 0.7])),
    "ddpm-explicit": (DDPM(betas=UNEVEN_BETAS), ddpm_chain(UNEVEN_BETAS)),
    "ncsn": (NCSN(), ncsn_chain(geometric(0.02, 2.0, 10))),
    "ncsn-v2": (NCSN(232, sigma_min=0.02, sigma_max=100.0), ncsn_chain(geometric(0.02, 100.0, 232))),
    "ncsn-explicit": (NCSN(sigmas=UNEVEN_SIGMAS), ncsn_chain(UNEVEN_SIGMAS)),
}


def pairs(num_steps, count=40, seed=0):
    """Some (s, t) with 0 <= s < t: neighbours at both ends, the longest stride, and random ones."""
    rng = np.random.default_rng(seed)
    ends = [(0, 1), (num_steps - 1, num_steps), (0, num_steps), *([(1, 2), (1, num_steps)] if num_steps > 2 else [])]
    return [*ends, *(tuple(sorted(rng.choice(num_steps + 1, 2, replace=False).tolist())) for _ in range(count))]


@dataclasses.dataclass(frozen=True)
class Mixture:
    """sum_k weights_k N(means_k, stds_k² I) seen through x = alpha x_0 + sigma eps, in float64."""

    weights: np.ndarray
    means: np.ndarray
    stds: np.ndarray

    def joint(self, x, alpha, sigma):
        """log(weight_k N(x; alpha m_k, v_k)) `[B, K]`, from each dimension's density."""
        variance = alpha**2 * np.square(self.stds) + sigma**2
        difference = x[:, None, :] - alpha * self.means
        densities = -(difference**2) / (2 * variance[:, None]) - 0.5 * np.log(2 * np.pi * variance[:, None])
        return np.log(self.weights) + densities.sum(-1)

    def log_prob(self, x, alpha=1.0, sigma=0.0):
        return np.logaddexp.reduce(self.joint(x, alpha, sigma), axis=1)

    def x0(self, x, alpha, sigma):
        """E[x_0 | x], component by component: precisions of the prior and of the observation x / alpha add."""
        joint = self.joint(x, alpha, sigma)
        weight = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
        prior, seen = 1 / np.square(self.stds)[:, None], alpha**2 / sigma**2
        means = (prior * self.means + seen * x[:, None, :] / alpha) / (prior + seen)
        return np.einsum("bk,bkd->bd", weight, means)


def ancestral_moments(chain, times, variance, mean_0, std_0):
    """Mean and variance of x after each ancestral step, from the prior, for data N(mean_0, std_0²)."""
    alphas, variances = chain.marginals()
    mean, var = 0.0, 1.0 if alphas[-1] < 1 else variances[-1]
    for t, s in zip(times[:-1], times[1:], strict=True):
        a, b, small = chain.posterior(s, t)
        added = 0.0 if s == 0 else small if variance == "small" else chain.transition(s, t)[1]
        gain = alphas[t] * std_0**2 / (alphas[t] ** 2 * std_0**2 + variances[t])
        slope = a * gain + b
        mean, var = slope * mean + a * (1 - gain * alphas[t]) * mean_0, slope**2 * var + added
        yield mean, var


def langevin_moments(chain, sampler, mean_0, std_0):
    """Mean and variance of x after all Langevin steps, from the prior, for data N(mean_0, std_0²)."""
    alphas, variances = chain.marginals()
    sigmas = np.sqrt(variances)
    mean, var = 0.0, 1.0 if alphas[-1] < 1 else sigmas[-1] ** 2
    for t in range(len(alphas) - 1, 0, -1):
        spread = alphas[t] ** 2 * std_0**2 + sigmas[t] ** 2
        for _ in range(sampler.steps_per_level):
            pull = sampler.step_size * sigmas[t] ** 2 / spread
            mean = mean + pull * (alphas[t] * mean_0 - mean)
            var = (1 - pull) ** 2 * var + 2 * sampler.step_size * sigmas[t] ** 2
        if t == 1 and sampler.denoise:
            pull = sigmas[1] ** 2 / spread
            mean, var = mean + pull * (alphas[1] * mean_0 - mean), (1 - pull) ** 2 * var
        scale = alphas[t - 1] / alphas[t]
        mean, var = scale * mean, scale**2 * var
    return mean, var
