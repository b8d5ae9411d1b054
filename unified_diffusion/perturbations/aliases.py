"""The names of versions before 0.2, which stay for one release."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Levels:
    """The old `perturbation.levels`: each old name on the left is the name of the process itself on the right.

    alphas, sigmas, log_snrs -> table.alpha, table.sigma, table.log_snr (of a chain); exact(t)[0:3] -> exact(t).alpha,
    .sigma, .log_snr; width -> level_width; number -> level_number; label -> noise_label. All other names are unchanged.
    """

    process: Any

    @property
    def alphas(self):
        """The signal scales alpha over t = 0 … num_steps of a chain, float64."""
        return self.process.table.alpha

    @property
    def sigmas(self):
        """The noise scales sigma over t = 0 … num_steps of a chain, float64."""
        return self.process.table.sigma

    @property
    def log_snrs(self):
        """The log-SNR over t = 0 … num_steps of a chain, float64."""
        return self.process.table.log_snr

    @property
    def width(self):
        """The rise of t from one level to the next."""
        return self.process.level_width

    def exact(self, t):
        """The values (alpha, sigma, log-SNR) at known t, float64."""
        return tuple(self.process.exact(t)[1:4])

    def number(self, t):
        """The number of the level nearest to t."""
        return self.process.level_number(t)

    def label(self, t):
        """The noise label at t: t counted in levels from 0."""
        return self.process.noise_label(t)

    def change(self, s, t):
        """The change log_snr(t) - log_snr(s) at known times of a continuous process, float64."""
        return self.process.change(s, t)[1]

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.process, name)
