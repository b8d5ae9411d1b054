"""The exceptions for mistakes that the user can mend."""


class UserError(ValueError):
    """A wrong setting, path or file: the message says what is wrong, where, and what to write instead.

    `experiments.main` prints this error as one line without a traceback; any other exception is a defect of the code.
    """


class NotFinite(UserError):
    """A loss, a gradient, or a value of a sample is NaN or infinite."""
