"""What a command that judges networks finds on the way, so that the same command goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypergen.storage.result_files import require_json
from hypergen.storage.results_cache import ResultsCache


@contextmanager
def found_meanwhile(json: Path | None) -> Iterator[ResultsCache | None]:
    """The cache beside the file that results go to; None without a file.

    An interruption within is told with how to go on. `InputError`: a file of something else.
    """
    if json is not None:
        require_json(json)
    try:
        yield None if json is None else ResultsCache(json.with_suffix(".masks.jsonl"))
    except KeyboardInterrupt:
        again = "" if json is None else "; repeat the command to continue"
        raise KeyboardInterrupt(again) from None
