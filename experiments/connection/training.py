"""The networks of the page, trained by the package's own loop."""

from unified_diffusion.runs import config as configs
from unified_diffusion.runs.build import create, data_facts, load_data
from unified_diffusion.runs.folder import claim, claim_data
from unified_diffusion.training import train


def claimed(name, fields, workdir):
    """The resolved config of a run, for which `workdir` is taken.

    Args:
        name: of the config's file.
        fields: {"training.steps": 1000, …}, as on a command line.
        workdir: of the run.

    Raises:
        UserError: the folder holds a run of other settings.
    """
    settings = configs.read_config(name)
    overrides = [(field, str(value)) for field, value in fields.items()]
    resolved = configs.resolve(settings, overrides)
    workdir.mkdir(parents=True, exist_ok=True)
    claim(workdir, resolved, {"config": name, "settings": settings, "overrides": overrides})
    return resolved


def trained(name, fields, workdir):
    """Trains the run that `claimed` resolves, or goes on with it; returns (experiment, dataset, denoiser).

    Raises:
        UserError: the folder holds a run of other settings or data.
        KeyboardInterrupt: the training was stopped, and has been saved.
    """
    resolved = claimed(name, fields, workdir)
    dataset = load_data(resolved)
    facts = data_facts(dataset)
    experiment = create(resolved, facts)
    claim_data(workdir, facts)
    parts = (experiment.model, experiment.params, experiment.objective, experiment.optimizer)
    state, stopped = train(*parts, dataset, experiment.training, workdir, experiment.seed)
    if stopped:
        raise KeyboardInterrupt
    return experiment, dataset, experiment.model.denoiser(state.ema)
