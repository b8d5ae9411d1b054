"""The sections of a config that are settings of a command, and those of the network's reading."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from unified_diffusion import flow
from unified_diffusion.data.splits import SPLITS
from unified_diffusion.errors import UserError
from unified_diffusion.evaluation import FEATURES
from unified_diffusion.likelihood.flow import TRACES
from unified_diffusion.parameterizations import parameterization
from unified_diffusion.registry import choose, lookup
from unified_diffusion.reverse import VARIANCES


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoiserSettings:
    """The way in which the network is read.

    Args:
        prediction: the meaning of the network's output: "eps", "x0", "v", "score" or "mean", or "my_module:MyClass", a
            `Parameterization` of one's own.
        prediction_options: options of that parameterization beside the next two.
        scale_input: whether the network is shown x_t / sqrt(alpha² + sigma²), which for DDPM is x_t itself.
        variance: "fixed", or "learned": the network puts out the reverse step's variance, too, in as many channels.
        conditional: whether the network is given the class labels.
    """

    prediction: str = "eps"
    scale_input: bool = False
    variance: str = "fixed"
    conditional: bool = False
    prediction_options: Mapping = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def parameterization(self):
        """The `Parameterization` of these settings.

        Raises:
            UserError: an unknown prediction, variance or option.
        """
        options = {"scale_input": self.scale_input, "variance": self.variance}
        return parameterization(self.prediction, **self.prediction_options, **options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """The samples that `--mode=sample`, and the end of training, draw.

    Args:
        num_images: how many samples are drawn; they go to samples.npz.
        batch_size: how many samples are drawn at once; a sample of a seed does not depend on it.
        seed: the seed of the samples; the noise of a seed is the same for every model and sampler.
        grid: how many of the samples are drawn in the picture.
        ema: whether the averaged parameters are taken.
        fitting_examples: how many training examples, chosen at random, a sampler that has to be fitted first, such as
            "analytic_dpm", is fitted on; the pictures during training take no more of them than they show samples.
        label: the class to draw; None draws all classes in turn. The run must be conditional, or guided by a
            classifier.
        guidance_scale: the scale of classifier-free guidance: 1 is the conditional network alone, 0 the unconditional
            one. Every other scale than 1 takes two network evaluations in place of one, and a run that was trained with
            `training.label_dropout`.
        guidance_interval: the values (low, high) of sigma / alpha between which samples are guided, low < sigma / alpha
            <= high; None is everywhere.
        classifier: the folder of a run of `classifier_digits.py`, or of another run whose objective is
            "classification", that guides the samples by its gradient. The run sampled from may be unconditional.
        classifier_scale: the factor of the classifier's gradient.
        frames: the number of times at which samples are shown on their way from noise, in strips.png and sampling.gif;
            0 draws neither file. A sampler of fewer steps has a frame for each step.

    Raises:
        UserError: a number out of range.
    """

    num_images: int = 1000
    batch_size: int = 250
    seed: int = 0
    grid: int = 100
    ema: bool = True
    fitting_examples: int = 1000
    label: int | None = None
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, ...] | None = None
    classifier: str | None = None
    classifier_scale: float = 1.0
    frames: int = 0

    def __post_init__(self):
        _check_counts(self, "sampling", 1, ("num_images", "batch_size", "grid", "fitting_examples"))
        interval = self.guidance_interval
        if interval is not None and not (len(interval) == 2 and 0 <= interval[0] < interval[1]):
            raise UserError(
                f"sampling.guidance_interval = {interval}: write LOW,HIGH of sigma / alpha, 0 <= LOW < HIGH, or none"
            )
        for name in ("guidance_scale", "classifier_scale"):
            if not np.isfinite(getattr(self, name)):
                raise UserError(f"sampling.{name} = {getattr(self, name)}: it must be a finite number")
        _check_counts(self, "sampling", 0, ("frames",))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interpolation:
    """The ways between test images that `--mode=interpolate` draws.

    `sampling.seed` chooses the images, and `sampling.ema` the parameters.

    Args:
        pairs: how many pairs of test images are taken.
        pair_images: how many images stand on the way of each pair, both ends among them.
        inversion_steps: the number of steps up to the latents, and down again.

    Raises:
        UserError: a number out of range.
    """

    pairs: int = 8
    pair_images: int = 9
    inversion_steps: int = 250

    def __post_init__(self):
        _check_counts(self, "interpolation", 1, ("pairs", "pair_images", "inversion_steps"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inpainting:
    """The completions of test images that `--mode=inpaint` draws.

    `sampling.seed` chooses the images and the noise, and `sampling.ema` the parameters.

    Args:
        mask: the part of an image that is known: its upper "half", all but its "centre", or its "grey".
        masked_images: how many images of the test split are completed.
        completions: how many completions of each image are drawn.
        resamplings: how often each step of a completion is taken; see `Conditioned`. With more of them the completed
            part goes better with the known part. Samplers that remember earlier steps need 1, and for annealed Langevin
            dynamics 1 is enough.

    Raises:
        UserError: a number out of range, or an unknown mask.
    """

    mask: str = "half"
    masked_images: int = 8
    completions: int = 4
    resamplings: int = 5

    def __post_init__(self):
        choose(self.mask, ("half", "centre", "grey"), "inpainting.mask")
        _check_counts(self, "inpainting", 1, ("masked_images", "completions", "resamplings"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The measures that `--mode=eval`, and the end of training, take.

    Args:
        num_examples: how many examples of the test split are taken; 0 for all.
        num_levels: how many noise levels are measured, spread over the process; 0 for all.
        batch_size: how many examples are measured at once.
        seed: the seed of the noise.
        ema: whether the averaged parameters are measured.
        bound: whether the variational bound is measured, too: one network evaluation for each example and step.
        bound_examples: how many examples of the test split the bound is measured on; 0 for `num_examples`.
        bound_steps: the most steps that the bound's chain has, spread over the levels; 0 for all. A shorter chain is
            another model, mostly a worse one.
        bound_variance: "large", "small" or "learned"; "auto" is "learned" where the network has it, and else "large".
        flow_examples: how many examples of the test split the log-likelihood by the probability-flow ODE is measured
            on, at some hundred evaluations of the network and its derivative each; 0 measures none.
        flow_trace: "hutchinson", or "exact", with a derivative for every dimension.
        flow_probes: the number of random directions in Hutchinson's estimate.
        flow_solver, flow_rtol, flow_atol, flow_max_steps: the ODE's solver, as the "probability_flow" sampler has it.
        features: the features that samples.npz is measured in: a comma list of "inception", "classifier", "pixels" and
            "module:load"; "auto" is the first of these that can be had; "none" measures no samples.
        reference: the split that samples are measured against, "train" or "test".
        num_reference: the most examples of that split that are taken, chosen at random; 0 for all.
        bootstrap: how many random halves of the samples each 95 % interval is made from; 0 for no intervals.
        pairwise: the most samples, and reference examples, of the metrics over all pairs; 0 for all.
        neighbours: how many nearest training images of a sample are shown; 0 looks for none.

    Raises:
        UserError: a number out of range, or an unknown variance, extractor or split.
    """

    num_examples: int = 0
    num_levels: int = 50
    batch_size: int = 250
    seed: int = 0
    ema: bool = True
    bound: bool = True
    bound_examples: int = 0
    bound_steps: int = 0
    bound_variance: str = "auto"
    flow_examples: int = 0
    flow_trace: str = "hutchinson"
    flow_probes: int = 1
    flow_solver: str = "tsit5"
    flow_rtol: float = 1e-5
    flow_atol: float = 1e-5
    flow_max_steps: int = 1000
    features: str = "auto"
    reference: str = "train"
    num_reference: int = 50_000
    bootstrap: int = 200
    pairwise: int = 10_000
    neighbours: int = 5

    def __post_init__(self):
        _check_counts(self, "evaluation", 1, ("batch_size", "flow_probes"))
        choose(self.bound_variance, ("auto", *VARIANCES), "variance")
        choose(self.flow_trace, TRACES, "trace")
        flow.check(self.flow_solver, self.flow_rtol, self.flow_atol, self.flow_max_steps)
        choose(self.reference, SPLITS, "split")
        names = self.features.split(",")
        known = FEATURES if len(names) > 1 else {**FEATURES, "auto": None, "none": None}  # which stand alone
        for name in names:
            lookup(known, name.strip() if len(names) > 1 else name, "features")
        counts = ("num_examples", "num_levels", "bound_examples", "bound_steps", "flow_examples")
        _check_counts(self, "evaluation", 0, (*counts, "num_reference", "bootstrap", "pairwise", "neighbours"))

    @property
    def of_samples(self):
        """Whether the run's samples are measured, too."""
        return self.features != "none" or self.neighbours > 0

    def variance(self, learned):
        """The bound's variance, for a network whose own variance is "learned" or "fixed"."""
        automatic = "learned" if learned == "learned" else "large"
        return automatic if self.bound_variance == "auto" else self.bound_variance


def _check_counts(settings, section, least, names):
    """Raises UserError for a field of these names that is below `least`, 0 or 1."""
    for name in names:
        if getattr(settings, name) < least:
            must = "it must be at least 1" if least else "it must not be negative"
            raise UserError(f"{section}.{name} = {getattr(settings, name)}: {must}")
