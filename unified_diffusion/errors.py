"""The one exception that stands for a mistake its user can mend."""


class UserError(ValueError):
    """A wrong setting, path or file: the message says what is wrong, where, and what to write instead.

    `experiments.main` prints it as one line without a traceback; every other exception is a defect of ours.
    """


class NotFinite(UserError):
    """A number that is NaN or infinite: a loss, a gradient, or a value of a sample."""
