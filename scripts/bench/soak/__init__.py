"""Ends commands in every way at random moments, goes on, and compares with a run never ended.

Every command that writes files is ended by SIGKILL, SIGTERM or SIGINT, by a full disk, a clock that
jumps, a folder that may not be written to any more, a second process on the same folder, or by
damage to its newest checkpoint. Then it is run again to its end. What it has written must be that
of a run that nothing ended, bit for bit but for times; there must be no traceback, and nothing left
behind. A process that has done every command once forks for each, so that a case takes about a
second.

    python -m scripts.bench.soak --cases 1000
"""
