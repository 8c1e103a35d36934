"""Says what the library says in the words of the command line: `data_dir` becomes --data-dir."""

import re

from hypergen.errors import option


def in_options(message: str) -> str:
    """A text of the library as the command line's user knows it: settings as options."""
    return re.sub(r"`([a-z][a-z0-9_]*)`", lambda name: option(name[1]), message)


def one_line(box: str) -> str:
    """What tyro draws as a box: the complaint itself, and the option it suggests."""
    # Without UTF-8 the box is drawn with dashes.
    lines = [re.sub(r"[│╭╮╰╯]|[─-]{4,}", " ", line).strip() for line in box.splitlines()[1:]]
    sections = " ".join(line or "\n" for line in lines).split("\n")
    complaint = next((section.strip() for section in sections if section.strip()), "bad arguments")
    hint = re.search(r"Perhaps you meant:\s+(--[\w-]+)", box.replace("│", ""))
    # What a whole group is wrong about says itself which option it means.
    complaint = re.sub(r"^Error parsing ((--[\w-]+: )|[\w.-]+: )", r"\2", complaint)
    return f"{complaint} (did you mean {hint[1]}?)" if hint else complaint
