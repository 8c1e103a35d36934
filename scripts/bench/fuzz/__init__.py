"""Tries hypergen on inputs that nobody has listed, and reports what must not happen.

    python -m scripts.bench.fuzz --cases 5000 --seed 0 --jobs 2

Three parts draw their cases from a seed: `api`, lines of Python that call the public API; `files`,
files with something changed, each read by a command; `commands`, command lines. A case is a fault
when it ends in a traceback, says more or less than one line, gives a figure that cannot be, leaves
the process's state moved or files half-written, or takes more than 2 GiB.
"""
