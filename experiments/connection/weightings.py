"""Section 1: every weighting over the log-SNR, of DDPM's chain and of NCSN's ladder, on one axis."""

import numpy as np

from experiments.connection.page import Section, figure, formula, table, text
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
        log_snr = process.levels.log_snrs[1:]
        density = 1 / (process.num_steps * -np.asarray(process.log_snr_slope(t), np.float64))
        of_process = numbers[name] = {"log_snr": log_snr.tolist(), "weight": {}, "effective_weight": {}}
        for weighting in WEIGHTINGS:
            w = np.asarray(weight(weighting, process, t), np.float64)
            curves[weighting, name] = log_snr, w, w * density
            of_process["weight"][weighting] = w.tolist()
            of_process["effective_weight"][weighting] = (w * density).tolist()
    for weighting in WEIGHTINGS:
        row = [f"<code>{weighting}</code>"]
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
    body = [
        text(
            "Both models destroy data by <i>x<sub>t</sub> = α<sub>t</sub> x<sub>0</sub> + σ<sub>t</sub> ε</i>, and "
            "both are trained by an error that can be written as one of ε. What is left to choose is how much each "
            "noise level counts, and a noise level is one number, the log signal-to-noise ratio:"
        ),
        formula(
            "L = E [ w(t) ‖ε̂(x<sub>t</sub>, t) − ε‖² ], &emsp; λ(t) = log SNR(t) = log α<sub>t</sub>² / σ<sub>t</sub>²"
        ),
        text(
            "A weighting that is a function of λ alone is <b>the same curve for DDPM and for NCSN</b>: there the "
            "dashed line lies on the solid one. Four know more than λ. <code>vlb</code>, <code>likelihood</code> and "
            "<code>sigmoid</code> hold the step |dλ/dt|, since they are sums over a ladder's steps; and "
            "<code>dsm</code>, 1/σ², is a weight of the score in <i>x<sub>t</sub></i>'s own units, which DDPM shrinks "
            "by α."
        ),
        figure(everything, "All weightings on one axis: DDPM's chain solid, NCSN's ladder dashed."),
        figure(
            alone,
            "The same, one at a time: DDPM blue and solid, NCSN red and dashed. Where the two agree, only one line is "
            "seen.",
        ),
        table(
            ["weighting", *(f"DDPM, λ = {at:g}" for at in AT), *(f"NCSN, λ = {at:g}" for at in AT)],
            rows,
            "w at some log-SNRs, interpolated between levels.",
        ),
        text(
            "How often a level is drawn counts as well. Levels drawn uniformly from a ladder lie with density "
            "p(t) / |dλ/dt| over λ, so the loss is an integral over λ with the weight below. Here <code>vlb</code>, "
            "<code>likelihood</code> and <code>sigmoid</code> shed their ladder: they are the same function of λ for "
            "both, up to the 1/T of the mean over levels, and for <code>likelihood</code> it is flat."
        ),
        figure(effective, "The effective weight over the log-SNR: weight times the density of the levels."),
    ]
    return Section(TITLE, body, numbers)
