"""The one exception that means: this input is bad, and trying again will not help."""


class PermanentProblem(Exception):
    """Bad input that no retry can mend.

    ``str(error)`` is one plain sentence for a person: what is wrong, why, and what to do about it.
    The command line prints it and exits with 1; the pipeline fails the run once and does not retry.
    """
