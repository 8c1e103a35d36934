"""Signs of life of trials, so that those of a machine that died run again elsewhere.

Every sweep counts up a number in each of its trials. Who sees a number stand still takes the trial
for dead and puts its settings into the queue again. Nobody's clock is compared with another's, and
any storage will do: Optuna's own heartbeats do not pass its gRPC proxy.
"""

import math
import time
import warnings
from collections.abc import Callable, Collection, Iterable

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

BEAT = "beat"
"""The user attribute of a trial that counts up."""
SECONDS = 15.0
"""Between two beats."""
PATIENCE = 120.0
"""Seconds without a beat after which a trial is taken for dead."""


class Heartbeat:
    """Beats for the trials of one sweep, and looks after those of others in the same study."""

    def __init__(self, study: optuna.Study, clock: Callable[[], float] = time.monotonic):
        self.study, self.clock = study, clock
        self.count, self.due = 0, -math.inf
        self.seen: dict[int, tuple[object, float]] = {}  # of a trial: its beat, and since when

    def beat(self, own: Collection[optuna.Trial]) -> None:
        """Counts up in own trials, also in those still to begin, and revives others, when due."""
        if self.clock() < self.due:
            return
        self.due, self.count = self.clock() + SECONDS, self.count + 1
        for trial in own:
            try:
                trial.set_user_attr(BEAT, self.count)
            except UpdateFinishedTrialError:  # taken for dead: told when it ends
                continue
        self.revive({trial.number for trial in own})

    def revive(self, own: Iterable[int]) -> None:
        """Fails trials of others that have not beaten for long, and queues their settings again."""
        now = self.clock()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            beat = trial.user_attrs.get(BEAT)
            known, since = self.seen.get(trial.number, (None, now))
            if beat is None or trial.number in own:  # of a version that does not beat
                continue
            if beat != known:
                self.seen[trial.number] = beat, now
            elif now - since > PATIENCE and finish(self.study, trial.number, TrialState.FAIL):
                self.study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
                warnings.warn(
                    f"trial {trial.number} gave no sign of life for {PATIENCE:.0f} seconds: "
                    "it runs again",
                    stacklevel=2,
                )


def finish(
    study: optuna.Study,
    trial: optuna.Trial | int,
    state: TrialState,
    values: list[float] | None = None,
) -> bool:
    """Tells the study how a trial ended; False if somebody has told that already."""
    number = trial if isinstance(trial, int) else trial.number
    try:
        study.tell(number, values, state)
    except (UpdateFinishedTrialError, ValueError):
        if study.get_trials(deepcopy=False)[number].state.is_finished():
            return False
        raise
    return True
