"""DDPM's Table 2: what the network predicts, and which loss it is trained on. Ho et al. 2020, section 4.2."""

TITLE = "DDPM's Table 2: prediction and loss"
NOTE = """\
The network predicts the posterior mean or the noise ε. It is trained on the variational bound L with a learned \
diagonal variance, on L with a fixed isotropic one, or on the unweighted squared error of what it predicts, which for \
ε is L_simple.

The figures published beside it are FIDs of CIFAR-10 after 800,000 steps, of samples of 1,000 network evaluations. \
They are on the scale of the Fréchet distance of inception features with ddpm_cifar.py, and of no other number here; \
on other data it is their order that can be compared."""

SOURCE = "Ho et al. 2020, table 2, FID on CIFAR-10; “unstable” stands for what it leaves blank as unstable to train"
CONFIG = {"perturbation.name": "ddpm", "sampler.name": "ancestral"}

MEAN_ERROR = "unified_diffusion.objectives.variational:mean_error"

LEARNED = {
    "objective.name": "variational",
    "objective.variance": "learned",
    "denoiser.variance": "learned",
    "sampler.variance": "learned",
}
FIXED = {"objective.name": "variational", "objective.variance": "large"}


def error(weighting):
    """The squared error of what the network predicts, as a weighting of that of ε."""
    return {"objective.name": "denoising", "objective.weighting": weighting}


ROWS = [
    ("mean", LEARNED, 23.69),
    ("mean", FIXED, 13.22),
    ("mean", error(MEAN_ERROR), "unstable"),
    ("eps", LEARNED, "unstable"),
    ("eps", FIXED, 13.51),
    ("eps", error("simple"), 3.17),
]


def settings(prediction, loss):
    """The overrides of a row."""
    return {"denoiser.prediction": prediction, **loss}


PUBLISHED = [
    {"match": settings(prediction, loss), "metric": "CIFAR-10 FID", "value": value, "source": SOURCE}
    for prediction, loss, value in ROWS
]


def get_sweep():
    return [settings(prediction, loss) for prediction, loss, _ in ROWS]
