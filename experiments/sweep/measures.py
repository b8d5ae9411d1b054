"""The numbers of the page's table: which there are, their means and spreads over seeds, and which of them is best."""

import dataclasses
import math

import numpy as np
from scipy.special import stdtrit

from unified_diffusion.evaluation.sample_metrics import METRICS

# Titles of the metrics whose names are not what people say.
TITLES = {
    "frechet_distance": "Fréchet distance",
    "inception_score": "inception-style score",
    "share_nearer": "nearer to training data",
}
FEATURES = ("inception", "classifier", "pixels")
NO_FEATURES = ("neighbours", "likelihood", "published", "cost")
ARROWS = {"lower": "↓", "higher": "↑"}


@dataclasses.dataclass(frozen=True)
class Column:
    """A measure, as a column of the table.

    Attributes:
        key: the key in `RunResult.measures`.
        title: the name for people.
        family: the word above the column: the features, or one of `NO_FEATURES`.
        better: "lower" or "higher" where runs may be compared by the measure, else None.
    """

    key: str
    title: str
    family: str
    better: str | None


@dataclasses.dataclass(frozen=True)
class GroupMean:
    """The mean of a measure over the seeds of a group.

    Attributes:
        mean: the mean.
        spread: the standard deviation over seeds, n - 1 in the denominator; None for a single seed.
        low, high: the single seed's own 95 % interval, or None.
        count: the number of seeds.
        variance: the squared standard error of the mean, or None where it is unknown.
        freedom: the degrees of freedom of that variance.
    """

    mean: float
    spread: float | None
    low: float | None
    high: float | None
    count: int
    variance: float | None
    freedom: float


def columns(summary):
    """The measures that some run has, in the table's order."""
    found = []
    metrics = [key for key in summary.keys if "." in key]
    families = dict.fromkeys([*FEATURES, *(key.split(".", 1)[0] for key in metrics)])
    for family in sorted(families, key="neighbours".__eq__):
        names = [key.split(".", 1)[1] for key in metrics if key.split(".", 1)[0] == family]
        for name in sorted(names, key=lambda name: list(METRICS).index(name) if name in METRICS else len(METRICS)):
            better = METRICS[name][0] if name in METRICS else None
            found.append(Column(f"{family}.{name}", TITLES.get(name, name.replace("_", " ")), family, better))
    if "bound" in summary.keys:
        unit = next(run.evaluation["bound"]["unit"] for run in summary.runs if "bound" in run.measures)
        found.append(Column("bound", f"bound, {unit}", "likelihood", "lower"))
    if "test_error" in summary.keys:
        found.append(Column("test_error", "test error in ε", "likelihood", None))
    return found


def group_mean(measures):
    """The `GroupMean` of the measurements of a group, or None without any.

    The variance over seeds is not taken smaller than the runs' own intervals say: two seeds may agree by chance.
    """
    if not measures:
        return None
    values = np.array([measure.value for measure in measures], np.float64)
    own = [measure.error for measure in measures if measure.error is not None]
    floor = float(np.mean(np.square(own))) if own else None
    count = len(values)
    if count == 1:
        only = measures[0]
        return GroupMean(only.value, None, only.low, only.high, 1, floor, math.inf)
    spread = float(values.std(ddof=1))
    return GroupMean(
        float(values.mean()), spread, None, None, count, max(spread**2, floor or 0.0) / count, float(count - 1)
    )


def best(means, better):
    """The index of the mean that leads every other one by more than chance, or None.

    A mean leads by more than chance if the difference is above Student's 97.5 % point times its standard error, with
    the degrees of freedom of Welch 1947: 4.3 standard errors for two seeds on each side, 2.0 for many.

    Args:
        means: the `GroupMean` of each group, None for a group that has not been measured.
        better: "lower" or "higher"; None where runs may not be compared.
    """
    sign = -1 if better == "lower" else 1
    known = [(index, found) for index, found in enumerate(means) if found is not None]
    if better is None or len(known) < 2:
        return None
    leader, first = max(known, key=lambda pair: sign * pair[1].mean)
    leads = (leads_by_more_than_chance(sign, first, other) for index, other in known if index != leader)
    return leader if all(leads) else None


def leads_by_more_than_chance(sign, first, other):
    """Whether sign (first - other) is more than chance would make it."""
    if first.variance is None or other.variance is None:
        return False
    total = first.variance + other.variance
    if total == 0:
        return sign * (first.mean - other.mean) > 0
    parts = first.variance**2 / first.freedom + other.variance**2 / other.freedom
    freedom = min(total**2 / parts, 1e6) if parts > 0 else 1e6
    return sign * (first.mean - other.mean) > stdtrit(freedom, 0.975) * math.sqrt(total)


def show(value, spread=None):
    """A number as text, to the first digit of its spread (the second if the first is 1), else to four digits."""
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) < 1e-12:  # what rounding leaves of 0
        return "0"
    if spread and math.isfinite(spread):
        decimals = -math.floor(math.log10(spread / 2))
    else:
        decimals = 3 - math.floor(math.log10(abs(value)))
    if decimals > 7 or abs(value) >= 1e7:
        return f"{value:.2e}".replace("-", "−")
    return f"{round(value, decimals):,.{max(decimals, 0)}f}".replace("-", "−")
