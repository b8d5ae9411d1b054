"""A small network trained to tell the classes of the data at hand; the input of its last layer is the features."""

import dataclasses
import functools
import hashlib
import json
import logging
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tqdm import tqdm

from unified_diffusion.codecs import Images, codec_for
from unified_diffusion.data import batches
from unified_diffusion.data.cache import cache_dir
from unified_diffusion.evaluation.features.base import FeatureExtractor, Features, Unavailable, in_batches
from unified_diffusion.files import file_lock, write_atomically
from unified_diffusion.keys import named_key
from unified_diffusion.models.layers import GroupNorm, conv, dense

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the network is made and trained; another recipe gives another extractor.

    Args:
        width: the channels of the first layer; later layers have twice as many, and there are as many features.
        batch_size: examples a step.
        learning_rate: the first learning rate of Adam, which falls to 0 by a cosine.
        epochs: passes over the data, as far as the steps stay between `fewest_steps` and `most_steps`.
        seed: the seed of the parameters and of the order of the batches.
    """

    width: int = 32
    batch_size: int = 128
    learning_rate: float = 2e-3
    epochs: int = 20
    fewest_steps: int = 400
    most_steps: int = 4000
    seed: int = 0

    def steps(self, examples):
        """The number of training steps on a data set of `examples` examples."""
        return min(max(self.epochs * examples // self.batch_size, self.fewest_steps), self.most_steps)


class Network(nnx.Module):
    """A network of 3 x 3 convolutions that halve the sides to at most 4, a mean over positions, and a linear map."""

    def __init__(self, shape, num_classes, width, rngs):
        *sides, channels = shape
        options = {"dtype": jnp.float32, "rngs": rngs}
        halvings = max(int(np.ceil(np.log2(max(sides) / 4))), 0)
        wide = 2 * width
        outs, strides = [width, *[wide] * (halvings + 1)], [1, *[2] * halvings, 1]
        layers = zip([channels, *outs[:-1]], outs, strides, strict=True)
        self.convs = nnx.List([conv(*sizes, stride=stride, **options) for *sizes, stride in layers])
        self.norms = nnx.List([GroupNorm(size, num_groups=8, dtype=jnp.float32) for size in outs])
        self.head = dense(wide, num_classes, **options)

    def __call__(self, x):
        """The features `[B, 2 width]` and the logits `[B, classes]` of images in [-1, 1]."""
        for layer, norm in zip(self.convs, self.norms, strict=True):
            x = jax.nn.swish(norm(layer(x)))
        features = x.mean(axis=(1, 2))
        return features, self.head(features)


@dataclasses.dataclass(frozen=True)
class ClassifierFeatures(FeatureExtractor):
    """The features of a trained `Network`.

    Args:
        network: its `nnx.GraphDef`.
        params: its `nnx.State`.
    """

    network: Any
    params: Any
    fingerprint: str
    note: str
    name: str = "classifier"

    def extract(self, dataset, count=None):
        def features(examples):
            return Features(*map(np.asarray, _predict(self.network, self.params, examples)))

        return in_batches(features, dataset, count)

    def accuracy(self, features):
        if features.labels is None or features.probabilities is None:
            return None
        return float(np.mean(features.probabilities.argmax(axis=1) == features.labels))


def load(train, recipe=Recipe()) -> ClassifierFeatures:
    """The classifier of labelled images, which comes from the cache, or is trained now and kept there.

    The data and the recipe determine the classifier, on one machine to the last bit, and name its file in the cache. If
    several processes ask for it at once, one process trains and the others wait for its result.

    Raises:
        Unavailable: points, or data without two classes.
    """
    if not codec_for(train.shape).are_images:
        raise Unavailable("classifier: it is for images, and these data are points")
    if train.num_classes < 2:
        raise Unavailable("classifier: the data have no labels to train it on")
    network = Network(train.shape, train.num_classes, recipe.width, nnx.Rngs(named_key(recipe.seed, "classifier")))
    graph, params = nnx.split(network)
    settings = json.dumps([1, train.fingerprint, dataclasses.asdict(recipe)])
    path = cache_dir() / f"classifier-{hashlib.sha256(settings.encode()).hexdigest()[:16]}.npz"
    steps = recipe.steps(len(train))
    with file_lock(path.with_suffix(".lock")):
        trained = _read(path, params)
        if trained is None:
            trained = _train(graph, params, train, recipe, steps)
            _write(path, trained)
    note = f"our own network, {2 * recipe.width} features, trained {steps:,} steps on the {len(train):,} of train"
    return ClassifierFeatures(graph, trained, _fingerprint(trained), note)


def _train(graph, params, train, recipe, steps):
    optimizer = _optimizer(recipe.learning_rate, steps)
    state = optimizer.init(params)
    iterator = batches(train, recipe.batch_size, seed=recipe.seed)
    for _ in tqdm(range(steps), desc="training the classifier", unit="step", disable=not sys.stderr.isatty()):
        batch = next(iterator)
        params, state = _step(graph, params, state, batch["x0"], batch["label"], optimizer=optimizer)
    return params


@functools.cache  # one object for one setting, so that a step is compiled once
def _optimizer(learning_rate, steps):
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps))


@functools.partial(jax.jit, static_argnames=("graph", "optimizer"), donate_argnames=("state",))
def _step(graph, params, state, images, labels, optimizer):
    def loss(params):
        logits = nnx.merge(graph, params)(Images().encode(images))[1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state


@functools.partial(jax.jit, static_argnames="graph")
def _predict(graph, params, images):
    """The features `[B, 2 width]` and the probabilities of the classes `[B, classes]`."""
    features, logits = nnx.merge(graph, params)(Images().encode(images))
    return features, jax.nn.softmax(logits)


def _leaves(params):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def _fingerprint(params):
    digest = hashlib.sha256()
    for leaf in _leaves(params):
        digest.update(leaf.tobytes())
    return digest.hexdigest()[:16]


def _read(path, params):
    """The parameters in a file, or None where there is no file or it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            leaves = [file[f"arr_{i}"] for i in range(len(file.files))]
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged archive raises whatever its part raises
        _log.warning("cache file %s is damaged and will be written again: %s", path, error)
        return None
    return jax.tree.unflatten(jax.tree.structure(params), [jnp.asarray(leaf) for leaf in leaves])


def _write(path, params):
    """Writes the parameters, whole or not at all; a full or read-only disk is a warning."""
    try:
        write_atomically(path, lambda file: np.savez(file, *_leaves(params)))
    except OSError as error:
        _log.warning("the classifier is not cached in %s: %s", path.parent, error)
