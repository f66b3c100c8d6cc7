"""Slurm: nodes are drained, marked, made unattractive or reserved; waiting jobs are kept off them.

What is sent, by verb, and how it is taken back by hand (`skewscope undo ACT` does the same):

| verb | sent | by hand |
|---|---|---|
| note | scontrol update NodeName=N Comment=.. Extra=.. | scontrol update NodeName=N Comment= Extra= |
| avoid | .. Weight=.. AvailableFeatures=..,skewscope_avoid ActiveFeatures=.. | the former values |
| exclude | scontrol update JobId=J ExcNodeList=..,N | the former list, while the job waits |
| exclude, requeue | scontrol requeue J, then the same, then StartTime=now+5 | the same |
| drain | scontrol update NodeName=N State=DRAIN Reason="skewscope:INCIDENT .." | .. State=UNDRAIN |
| quarantine | scontrol create reservation ReservationName=skewscope_INCIDENT_ACT .. | scontrol delete .. |
| requeue | scontrol requeue J, then StartTime=now+5 | a restart cannot be taken back |

A drain lets running work end. Weights and features are soft: `scontrol reconfigure` and a restart of slurmctld lose
them, and the reconcile loop sets them again; all else survives. A job is never held: a requeue makes it wait for its
old credential anyway, and in that time its list is changed, so that nothing is left hanging where we are cut short.

Rights: an operator of Slurm (AdminLevel=Operator, or SlurmUser) for all verbs; none to look. Without them use the
`file` actuator and let each node drain itself: `slurm_health_check.sh` beside this file is its HealthCheckProgram.
With `rest_url` it speaks to slurmrestd (v0.0.39 or newer): note, avoid, drain, and exclude for jobs that wait.

Reasons, comments, features, reservations and lists of others are never overwritten nor removed, and what is not ours
any more is not taken back.
"""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass
from typing import ClassVar

from ..acts import Command, Fleet, Outcome, Request, Values
from ..errors import SkewscopeError, UsageError
from . import _slurm_commands as commands
from . import _slurm_fields as fields
from . import _slurm_rest, _slurm_retest, _slurm_undo
from ._slurm_programs import Programs, Unsent
from ._slurm_state import fleet as fleet_of

AGAIN_S = 30.0
MINUTE_S = 60.0


@dataclass(frozen=True)
class Slurm:
    """One Slurm cluster; the fields are the settings of `[schedulers.slurm]`.

    `bin` is the folder of its programs ("" the path), `conf` another slurm.conf. An avoided node weighs `avoid_weight`
    more and bears `avoid_feature` ("" none). A quarantine lasts `quarantine_s`, for `reservation_users` ("" ourselves).
    `requeue_wait_s` bounds how long a requeued job is awaited to start it at once. `test_options` are more of srun's.
    """

    bin: str = ""
    conf: str = ""
    timeout_s: float = 20.0
    avoid_weight: int = 10_000
    avoid_feature: str = "skewscope_avoid"
    quarantine_s: float = 86_400.0
    reservation_users: str = ""
    requeue_wait_s: float = 30.0
    test_options: tuple[str, ...] = ()
    rest_url: str = ""
    rest_version: str = "v0.0.39"
    rest_user: str = ""
    rest_token_file: str = ""
    rest_ca_file: str = ""

    name: ClassVar[str] = "slurm"
    verbs: ClassVar[tuple[str, ...]] = ("note", "avoid", "exclude", "drain", "quarantine", "requeue")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.]*", self.avoid_feature):
            raise UsageError("avoid_feature: wants letters, digits, _ and . only")
        if not re.fullmatch(r"[A-Za-z0-9_.,-]*", self.reservation_users):
            raise UsageError("reservation_users: wants names of users, joined by commas")
        if self.avoid_weight < 1 or self.quarantine_s < MINUTE_S or self.timeout_s <= 0:
            raise UsageError("avoid_weight wants 1 or more, quarantine_s 60 or more, timeout_s more than 0")
        if self.rest_url:
            _slurm_rest.checked(self.rest_url, self.rest_version)

    def look(self) -> Fleet:
        """Return the nodes and jobs of now; raises SkewscopeError where Slurm does not answer."""
        try:
            return fleet_of(self._road.told())
        except (ValueError, LookupError, TypeError) as error:
            raise SkewscopeError(f"Slurm told what cannot be read: {type(error).__name__}: {error}") from None

    def command(self, request: Request, fleet: Fleet) -> Command:
        """Return what would be sent."""
        return commands.command(request, fleet, self._road, self._wishes)

    def apply(self, command: Command, *, dry_run: bool = True) -> Outcome:
        """Send a command, unless the node or the job is not any more as it was when the command was made."""
        if command.refused or command.nothing or not command.steps:
            return Outcome("refused" if command.refused else "nothing", command.refused)
        try:
            if stopped := _stale(command, self.look()):
                return stopped
        except SkewscopeError as error:
            return _failed(error, "nothing was sent")
        return Outcome("done", "dry run: nothing was sent") if dry_run else self._sent(command)

    def undo(self, record: Values, fleet: Fleet) -> Command:
        """Return what takes an act back."""
        return _slurm_undo.undo(record, fleet, self._road)

    def holds(self, record: Values, fleet: Fleet) -> bool | None:
        """Return whether an act stands; soft values are lost by `scontrol reconfigure`."""
        return _slurm_undo.holds(record, fleet)

    def test(self, record: Values, words: tuple[str, ...], timeout_s: float) -> str:
        """Return what a program wrote on a node that we drained, run in a reservation of ours; it stays drained."""
        if not isinstance(road := self._road, Programs):
            raise SkewscopeError("a node is tested through srun only: leave rest_url out")
        made = _slurm_retest.of(record, self.look(), road, self._wishes, tuple(self.test_options))
        return made.run(words, timeout_s)

    @property
    def _road(self) -> Programs | _slurm_rest.Rest:
        if self.rest_url:
            return _slurm_rest.Rest(self.rest_url, self.rest_version, self.rest_user or getpass.getuser(),
                                    self.rest_token_file, self.rest_ca_file, self.timeout_s)  # fmt: skip
        return Programs(self.bin, self.conf, self.timeout_s, self.requeue_wait_s)

    @property
    def _wishes(self) -> commands.Wishes:
        users = self.reservation_users or getpass.getuser()
        minutes = max(1, round(self.quarantine_s / MINUTE_S))
        return commands.Wishes(self.avoid_weight, self.avoid_feature, users, minutes)

    def _sent(self, command: Command) -> Outcome:
        said, sent = [], 0
        try:
            for step in command.steps:
                said.append(self._road.send(step))
                sent += 1
        except SkewscopeError as error:
            return _failed(error, f"{sent} of {len(command.steps)} steps were carried out", final=sent > 0)
        return Outcome("done", "; ".join(text for text in said if text))


def _stale(command: Command, fleet: Fleet) -> Outcome | None:
    """Return why a command must not be sent now, None where all is as it was."""
    left = command.undo
    stands = fields.now(tuple(command.before), left["target"], left["job"], fleet)
    if stands == command.after:
        return Outcome("nothing", "it is so already")
    if stands == command.before:
        return None
    return Outcome("conflict", f"changed by somebody else meanwhile: it was {command.before} and is {stands}")


def _failed(error: SkewscopeError, done: str, *, final: bool = False) -> Outcome:
    if isinstance(error, Unsent) and error.again and not final:
        return Outcome("waiting", f"{error}; {done}", AGAIN_S)
    return Outcome("failed", f"{error}; {done}")
