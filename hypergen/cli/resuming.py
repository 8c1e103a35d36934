"""What a command that judges networks finds on the way, so that the same command goes on."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypergen.runtime.sessions import SESSIONS
from hypergen.storage.atomic import read_json
from hypergen.storage.result_files import require_json
from hypergen.storage.results_cache import ResultsCache


@contextmanager
def found_meanwhile(file: Path | None) -> Iterator[ResultsCache | None]:
    """The cache beside the file that results go to; None without a file.

    An interruption within is told with how to go on. `InputError`: a file of something else.
    """
    if file is not None:
        require_json(file)
    try:
        yield None if file is None else ResultsCache(file.with_suffix(".masks.jsonl"))
    except KeyboardInterrupt:
        again = "" if file is None else "; repeat the command to continue"
        raise KeyboardInterrupt(again) from None


def sessions_before(file: Path, result: Mapping[str, Any]) -> Any:
    """What earlier calls have taken that came to the very same result; None where none did.

    Of these are the masks that were there already.
    """
    before = read_json(file) if file.exists() else {}
    same = {name: before.get(name) for name in result} == json.loads(json.dumps(result))
    return before.get(SESSIONS) if same else None
