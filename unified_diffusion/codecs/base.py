"""The base class of all codecs: its protocol."""

import abc
import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Shaped, UInt8

from unified_diffusion.errors import NotFinite, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Codec(abc.ABC):
    """A codec turns examples of the data into x_0, which the model is trained on, and samples of x_0 into examples.

    It also knows the facts that depend on the kind of the data: the range of x_0, the unit of likelihoods and of
    distances, and how a picture of examples is drawn.

    A subclass is a frozen dataclass of settings and defines `encode` and `to_data`, and mostly derives from `Images` or
    `Points`, which have the rest. For example, points with a standard deviation of 3:

        @dataclasses.dataclass(frozen=True, kw_only=True)
        class Scaled(Points):
            std: float = 3.0

            def encode(self, x):
                return jnp.asarray(x) / self.std

            def to_data(self, x0):
                return x0 * self.std

    Attributes:
        rank: the number of axes of an example: 3 for an image, 1 for a point.
        dtype: the NumPy type of the data's examples, which `decode` returns again.
        are_images: examples are images `[height, width, channels]` in uint8, which may be mirrored, completed, and
            shown beside their nearest training images.
        clip_range: the least and the greatest value of x_0, or None where x_0 has no such range. The samplers and the
            bound clip to (-1, 1) and to no other range.
        discretized: x_0 takes the 256 grey levels k / 127.5 - 1 and no others. Likelihoods are then probabilities of
            grey levels; else they are densities of x_0.
        unit: the unit in which likelihoods are told, "bits/dim" or "nats"; `in_unit` converts to it.
        distance_unit: the unit of `distance`, the distance between two examples of the data.
        error_unit: the unit of root mean squared errors of x_0 after the multiplication by `data_scale`.
        data_scale: the factor from differences of x_0 to differences in `error_unit`.
        num_pictured: how many samples the pictures show that are drawn during the training.
        shows_data: the picture of samples shows examples of the training data, too.
    """

    rank: ClassVar[int]
    dtype: ClassVar[type[np.generic]]
    are_images: ClassVar[bool] = False
    clip_range: ClassVar[tuple[float, float] | None] = None
    discretized: ClassVar[bool] = False
    unit: ClassVar[str] = "nats"
    distance_unit: ClassVar[str] = "data units"
    error_unit: ClassVar[str] = "RMSE, data units"
    data_scale: ClassVar[float] = 1.0
    num_pictured: ClassVar[int] = 64
    shows_data: ClassVar[bool] = False

    @abc.abstractmethod
    def encode(self, x: Shaped[Array | np.ndarray, "b ..."]) -> Float[Array, "b ..."]:
        """Returns x_0 of examples in float32. The training step calls this method under `jax.jit` for every batch."""

    def dequantize(self, x: Shaped[Array | np.ndarray, "b ..."], key: Key[Array, ""]) -> Float[Array, "b ..."]:
        """Returns x_0 of examples with uniform noise of one grey level added, so that x_0 has a density.

        Raises:
            UserError: the examples of this codec have no grey levels.
        """
        raise UserError(
            f"config.training.dequantize = True adds noise of a grey level, and the codec {self.name} has no grey "
            "levels: set it to false"
        )

    def check_dequantizes(self, shape: tuple[int, ...]) -> None:
        """Checks that the codec can dequantise examples of a shape, without computing anything.

        Raises:
            UserError: the codec cannot dequantise them.
        """
        jax.eval_shape(self.dequantize, jax.ShapeDtypeStruct((2, *shape), self.dtype), jax.random.key(0))

    @abc.abstractmethod
    def to_data(self, x0: Float[Array | np.ndarray, "b ..."]) -> Shaped[Array | np.ndarray, "b ..."]:
        """Returns the examples of x_0, in the type and the shape of the data. Call `decode`, which checks x_0 first."""

    def decode(
        self, x0: Float[Array | np.ndarray, "b ..."], kind: str = "samples"
    ) -> Shaped[Array | np.ndarray, "b ..."]:
        """Returns the examples of x_0, as they are written to files and shown.

        Args:
            x0: a batch of x_0. An array of NumPy is checked first, and gives an array of NumPy of the type `dtype`. An
                array of JAX is not checked, since it may be traced.
            kind: the plural name of the batch's members, for the error message.

        Raises:
            NotFinite: x_0 has values that are NaN or infinite; cast to uint8, they would be black pixels.
        """
        if not isinstance(x0, np.ndarray):
            return self.to_data(x0)
        self.check_finite(x0, kind)
        return np.asarray(self.to_data(x0), self.dtype)

    def check_finite(self, x0: Float[np.ndarray, "b ..."], kind: str = "samples") -> None:
        """Checks that every value is finite, before anything is cast, drawn or measured.

        Args:
            x0: a batch of x_0, or of examples, in host memory.
            kind: the plural name of the batch's members, for the error message.

        Raises:
            NotFinite: a value is NaN or infinite; the message says how many members have such values.
        """
        finite = np.isfinite(np.atleast_1d(x0))
        bad = ~finite.all(axis=tuple(range(1, finite.ndim)))
        if bad.any():
            raise NotFinite(
                f"{bad.sum():,} of {len(finite):,} {kind} have values that are NaN or infinite, the first of them is "
                f"number {int(bad.argmax())}: take another sampler or more of its steps, or train with a lower "
                "optimizer.learning_rate"
            )

    @property
    def name(self) -> str:
        """The name of the class, for messages."""
        return type(self).__name__

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Checks that the codec is for examples of this shape.

        Raises:
            UserError: examples have another number of axes.
        """
        if len(shape) != self.rank:
            raise UserError(
                f"the codec {self.name} is for examples with {self.rank} axes, and these have the shape {shape}: set "
                "config.codec.name=auto"
            )

    def encoded_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of one x_0, for examples of a given shape, from a trace of `encode` that computes nothing.

        Raises:
            UserError: `encode` does not return one x_0 in float32 for each example.
        """
        examples = jax.ShapeDtypeStruct((2, *shape), self.dtype)
        x0 = jax.eval_shape(self.encode, examples)
        if x0.dtype != jnp.float32 or x0.shape[:1] != (2,):
            raise UserError(
                f"the codec {self.name} encodes 2 examples as {x0.dtype} of shape {x0.shape}: one float32 x_0 for each "
                "example is needed"
            )
        return x0.shape[1:]

    def in_unit(self, nats: Any, shape: tuple[int, ...]) -> Any:
        """Converts likelihoods from nats to `unit`.

        Args:
            nats: negative log-likelihoods of whole examples, in nats.
            shape: the shape of one x_0.
        """
        return nats

    def distance(self, squared: Float[np.ndarray, "*shape"], size: int) -> Float[np.ndarray, "*shape"]:
        """Returns the distance of examples in `distance_unit`, which is the Euclidean distance by default.

        Args:
            squared: the sum of the squared differences of all values of two examples of the data.
            size: the number of values of an example.
        """
        return np.sqrt(squared)

    @abc.abstractmethod
    def picture(
        self,
        examples: Shaped[np.ndarray, "b ..."],
        labels: Shaped[np.ndarray, " b"] | None = None,
        reference: Shaped[np.ndarray, "n ..."] | None = None,
        most: int | None = None,
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Draws a picture of examples, uint8 `[height, width, 3]`.

        Args:
            examples: decoded samples, or data.
            labels: their classes, or None.
            reference: training data for comparison, or None; see `shows_data`.
            most: the largest number of examples that are drawn one by one; None draws all.
        """

    @abc.abstractmethod
    def strips(
        self, frames: Shaped[np.ndarray, "frames b ..."], times: list[float], rows: int = 10
    ) -> tuple[UInt8[np.ndarray, "height width 3"], list[UInt8[np.ndarray, "h w 3"]]]:
        """Draws a batch on its way from noise to data.

        Returns:
            (one picture with time from left to right, a list with a picture of each frame), uint8 `[height, width, 3]`.

        Args:
            frames: the decoded batch at several times.
            times: the time of each frame.
            rows: the number of examples that the one picture shows in rows of their own.
        """
