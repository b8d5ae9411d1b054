"""The parts of a config that are not a class of the package."""

import dataclasses

import numpy as np

from unified_diffusion import flow
from unified_diffusion.data.splits import SPLITS
from unified_diffusion.errors import UserError
from unified_diffusion.evaluation import FEATURES
from unified_diffusion.likelihood.flow import TRACES
from unified_diffusion.registry import choose, lookup
from unified_diffusion.reverse import VARIANCES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How the network is read.

    Args:
        prediction: what it puts out: "eps", "x0", "v", "score" or "mean".
        scale_input: show it x_t / sqrt(alpha² + sigma²), which for DDPM is x_t itself.
        variance: "fixed", or "learned": it puts out the reverse step's variance, too, in as many channels again.
        conditional: give it the class labels.
    """

    prediction: str = "eps"
    scale_input: bool = False
    variance: str = "fixed"
    conditional: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """What `--mode=sample`, and the end of training, draw.

    Args:
        num_images: how many; they go to samples.npz.
        batch_size: how many at once; a sample of a seed does not depend on it.
        seed: of the samples; the same noise for every model and sampler.
        grid: how many of them are drawn in the picture.
        ema: draw with the averaged parameters.
        mask: what `--mode=inpaint` knows of an image: its upper "half", all but its "centre", or its "grey".
        masked_images: of the test split, that it completes.
        completions: of each of them.
        resamplings: how often each step of a completion is taken; see `Conditioned`. More make the rest go better with
            what is known. Samplers that remember earlier steps need 1, and for annealed Langevin dynamics 1 is enough.
        fitting_examples: training examples, drawn at random, that a sampler which has to be fitted is fitted on first,
            such as "analytic_dpm"; the pictures during training take no more of them than they show samples.
        label: the class to draw; None draws all in turn. For a run that is conditional, or guided by a classifier.
        guidance_scale: of classifier-free guidance: 1 is the conditional network alone, 0 the unconditional one. Other
            than 1 takes two network evaluations in place of one, and a run trained with `training.label_dropout`.
        guidance_interval: (low, high) of sigma / alpha to guide in, low < sigma / alpha <= high; None is everywhere.
        classifier: folder of a run of `classifier_digits.py`, or of another whose objective is "classification", that
            guides by its gradient. The run sampled from may be unconditional.
        classifier_scale: of that gradient.
        frames: times at which samples are shown on their way from noise, in strips.png and sampling.gif; 0 draws
            neither. A sampler of fewer steps has a frame for each.
        pairs: of test images that `--mode=interpolate` draws the way between.
        pair_images: images on each such way, both ends among them.
        inversion_steps: steps up to the latents, and down again.

    Raises:
        UserError: a number out of range.
    """

    num_images: int = 1000
    batch_size: int = 250
    seed: int = 0
    grid: int = 100
    ema: bool = True
    mask: str = "half"
    masked_images: int = 8
    completions: int = 4
    resamplings: int = 5
    fitting_examples: int = 1000
    label: int | None = None
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, ...] | None = None
    classifier: str | None = None
    classifier_scale: float = 1.0
    pairs: int = 8
    pair_images: int = 9
    inversion_steps: int = 250
    frames: int = 0

    def __post_init__(self):
        choose(self.mask, ("half", "centre", "grey"), "sampling.mask")
        drawn = ("num_images", "batch_size", "grid", "masked_images", "completions", "resamplings")
        for name in (*drawn, "fitting_examples", "pairs", "pair_images", "inversion_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"sampling.{name} = {getattr(self, name)}: it must be at least 1")
        interval = self.guidance_interval
        if interval is not None and not (len(interval) == 2 and 0 <= interval[0] < interval[1]):
            raise UserError(
                f"sampling.guidance_interval = {interval}: write LOW,HIGH of sigma / alpha, 0 <= LOW < HIGH, or none"
            )
        for name in ("guidance_scale", "classifier_scale"):
            if not np.isfinite(getattr(self, name)):
                raise UserError(f"sampling.{name} = {getattr(self, name)}: it must be a finite number")
        if self.frames < 0:
            raise UserError(f"sampling.frames = {self.frames}: it must not be negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `--mode=eval`, and the end of training, measure.

    Args:
        num_examples: of the test split; 0 for all.
        num_levels: noise levels, spread over the ladder; 0 for all.
        batch_size: how many at once.
        seed: of the noise.
        ema: measure the averaged parameters.
        bound: measure the variational bound, too: one network evaluation for each example and step.
        bound_examples: of the test split; 0 for `num_examples`.
        bound_steps: of the chain at most, spread over the levels; 0 for all. A shorter chain is another model, mostly a
            worse one.
        bound_variance: "large", "small" or "learned"; "auto" is "learned" where the network has it, and else "large".
        flow_examples: of the test split, for the log-likelihood by the probability-flow ODE, some hundred evaluations
            of the network and its derivative each; 0 measures none.
        flow_trace: "hutchinson", or "exact", with a derivative for every dimension.
        flow_probes: random directions of Hutchinson's estimate.
        flow_solver, flow_rtol, flow_atol, flow_max_steps: of the ODE, as the "probability_flow" sampler's.
        features: what samples.npz is measured in: a comma list of "inception", "classifier", "pixels" and
            "module:load"; "auto" is the first of these that can be had; "none" measures no samples.
        reference: the split that samples are measured against, "train" or "test".
        num_reference: examples of it at most, drawn at random; 0 for all.
        bootstrap: random halves of the samples that each 95 % interval is made from; 0 for no intervals.
        pairwise: samples, and reference examples, of the metrics over all pairs at most; 0 for all.
        neighbours: nearest training images of samples to show; 0 looks for none.

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
        if self.batch_size < 1:
            raise UserError(f"evaluation.batch_size = {self.batch_size}: it must be at least 1")
        choose(self.bound_variance, ("auto", *VARIANCES), "variance")
        choose(self.flow_trace, TRACES, "trace")
        flow.check(self.flow_solver, self.flow_rtol, self.flow_atol, self.flow_max_steps)
        if self.flow_probes < 1:
            raise UserError(f"evaluation.flow_probes = {self.flow_probes}: it must be at least 1")
        choose(self.reference, SPLITS, "split")
        names = self.features.split(",")
        known = FEATURES if len(names) > 1 else {**FEATURES, "auto": None, "none": None}  # which stand alone
        for name in names:
            lookup(known, name.strip() if len(names) > 1 else name, "features")
        counts = ("num_examples", "num_levels", "bound_examples", "bound_steps", "flow_examples")
        for name in (*counts, "num_reference", "bootstrap", "pairwise", "neighbours"):
            if getattr(self, name) < 0:
                raise UserError(f"evaluation.{name} = {getattr(self, name)}: it must not be negative")

    @property
    def of_samples(self):
        """Whether samples are measured, too."""
        return self.features != "none" or self.neighbours > 0

    def variance(self, learned):
        """The bound's variance, for a network whose own is "learned" or "fixed"."""
        automatic = "learned" if learned == "learned" else "large"
        return automatic if self.bound_variance == "auto" else self.bound_variance
