"""Words names and errors of others so that they fit on one line of a message."""


def shown(text: str) -> str:
    """A name as a message shows it: on one line, whatever characters it has."""
    return text if text.isprintable() else ascii(text)


def one_line(error: Exception) -> str:
    """Kind and message of an error, on one line of at most 200 characters."""
    return shown(" ".join(f"{type(error).__name__}: {error}".split()))[:200]
