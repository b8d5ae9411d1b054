"""Section 1: every weighting over the log-SNR, for DDPM's chain and for NCSN's ladder, on one axis."""

import numpy as np

from experiments.connection.page import Section, code
from unified_diffusion.objectives import WEIGHTINGS, weight
from unified_diffusion.perturbations import DDPM, NCSN
from unified_diffusion.visualization import Curve, plot_panels

TITLE = "Every weighting on one axis"
PROCESSES = {"DDPM, 1000 linear steps": DDPM(), "NCSNv2, 232 levels": NCSN(232, sigma_min=0.02, sigma_max=100.0)}
AT = (-6, 0, 6)


def section(workdir, quick):
    """The `Section`: a computation without randomness, training or data."""
    del workdir, quick
    curves, rows, numbers = {}, [], {}
    for name, process in PROCESSES.items():
        t = np.arange(1, process.num_steps + 1)
        log_snr = process.exact(process.times).log_snr
        density = 1 / (process.num_steps * -np.asarray(process.log_snr_slope(t), np.float64))
        of_process = numbers[name] = {"log_snr": log_snr.tolist(), "weight": {}, "effective_weight": {}}
        for weighting in WEIGHTINGS:
            w = np.asarray(weight(weighting, process, t), np.float64)
            curves[weighting, name] = log_snr, w, w * density
            of_process["weight"][weighting] = w.tolist()
            of_process["effective_weight"][weighting] = (w * density).tolist()
    for weighting in WEIGHTINGS:
        row = [code(weighting)]
        for name in PROCESSES:
            log_snr, w, _ = curves[weighting, name]
            row += [float(np.interp(at, log_snr[::-1], w[::-1])) for at in AT]
        rows.append(row)
    styles = dict(zip(PROCESSES, ("-", "--"), strict=True))

    def panel(names, column):
        return [
            Curve(curves[weighting, name][0], curves[weighting, name][column], weighting * (style == "-"), color, style)
            for name, style in styles.items()
            for color, weighting in enumerate(names)
        ]

    everything = plot_panels(
        {"w(t): solid DDPM, dashed NCSN": panel(WEIGHTINGS, 1)},
        "log SNR    (noise on the left, clean data on the right)",
        "weight of ‖ε̂ − ε‖²",
        size=(7.6, 4.6),
        yscale="log",
        ylim=(1e-6, 1e6),
        legend="right",
    )
    effective = plot_panels(
        {
            name: [Curve(curves[w, name][0], curves[w, name][2], w, color) for color, w in enumerate(WEIGHTINGS)]
            for name in PROCESSES
        },
        "log SNR",
        "w(t) p(t) / |dλ/dt|",
        size=(4.4, 3.6),
        yscale="log",
        ylim=(1e-8, 1e4),
        legend="right",
    )
    alone = plot_panels(
        {
            weighting: [
                Curve(*curves[weighting, name][:2], name, i, style) for i, (name, style) in enumerate(styles.items())
            ]
            for weighting in WEIGHTINGS
        },
        "log SNR",
        "weight of ‖ε̂ − ε‖²",
        columns=4,
        size=(2.5, 2.0),
        yscale="log",
        ylim=(1e-6, 1e6),
        legend="none",
    )
    values = {
        "everything": everything,
        "alone": alone,
        "effective": effective,
        "header": ["weighting", *(f"DDPM, λ = {at:g}" for at in AT), *(f"NCSN, λ = {at:g}" for at in AT)],
        "rows": rows,
    }
    return Section("weightings", TITLE, values, numbers)
