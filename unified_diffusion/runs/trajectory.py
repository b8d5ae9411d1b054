"""Pictures of samples on their way from noise to data: strips.png and sampling.gif."""

import numpy as np

from unified_diffusion.keys import named_key
from unified_diffusion.perturbations import expand
from unified_diffusion.visualization import save_gif, save_png

FRAME, LAST = 120, 1500  # milliseconds


def write_trajectory(experiment, denoiser, sampler, strips, gif):
    """Writes both pictures of the first samples of samples.npz, which are drawn once more.

    strips.png has a row for each sample, with time from left to right; for points it is one row of panels. sampling.gif
    shows more samples at once.
    """
    codec = experiment.codec
    x, t = trajectory(experiment, denoiser, sampler, min(experiment.sampling.num_images, codec.num_pictured))
    strip, pictures = codec.strips(np.stack([codec.decode(np.asarray(frame)) for frame in x]), list(t))
    save_png(strip, strips)
    save_gif(pictures, gif, [FRAME] * (len(t) - 1) + [LAST])


def trajectory(experiment, denoiser, sampler, number):
    """(x `[frames + 1, number, ...]`, t): x / sqrt(alpha² + sigma²), which is of the data's size at every level.

    The last x are the first samples of samples.npz, before they are rounded.
    """
    sampling, denoiser = experiment.sampling, experiment.for_sampling(denoiser)
    label = experiment.labels(number)
    key = named_key(sampling.seed, "samples")
    x, t = sampler.trajectory(denoiser, key, (number, *experiment.shape), label, sampling.frames)
    process = sampler.process(denoiser.perturbation)
    scale = np.sqrt(np.asarray(process.alpha(t)) ** 2 + np.asarray(process.sigma(t)) ** 2)
    return x / np.asarray(expand(scale, x)), t
