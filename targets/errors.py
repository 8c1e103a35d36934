"""What goes wrong with a target."""


class TargetError(ValueError):
    """A target, an activation or a weight vector that cannot be: one line, for people."""
