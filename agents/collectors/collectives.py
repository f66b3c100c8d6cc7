"""Collectives, steps and phases of the ranks on this node, from the rings that their hooks write.

Every rank's ring is read once a second. Records become counters per rank, distributions per job and, since the ranks
of a node share a clock, the lateness of each at every collective. With a folder for it, all records are kept there.
A ring must belong to the user of the process that it names; what cannot be read is counted, never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData
from skewscope.spool import CAPACITY, OPS, PHASES, RECORD_BYTES, UNITS, Drained

from . import _ring_columns as columns
from ._job_totals import JobTotals
from ._lateness import Meeting
from ._rank_totals import RankTotals
from ._ring import PAIRWISE, Ring
from ._ring_watch import KEPT_LOOKS, RingWatch

LEAST_DRAIN = 4096
MOST_OPEN_TOLD = 256


class Collectives:
    """Follows all rings of the spool."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    comes_and_goes: ClassVar[bool] = True
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_collective_duration_seconds", "skewscope_collectives_total", "skewscope_collective_seconds_total",
        "skewscope_collective_min_seconds", "skewscope_collective_bytes_total",
        "skewscope_collective_bus_bandwidth_bytes_per_second", "skewscope_collective_last_sequence",
        "skewscope_collective_in_flight", "skewscope_collective_in_flight_age_seconds",
        "skewscope_collective_local_lateness_seconds_total", "skewscope_collective_local_last_arrivals_total",
        "skewscope_steps_total", "skewscope_step_seconds_total", "skewscope_step_duration_seconds",
        "skewscope_step_last_timestamp_seconds", "skewscope_phase_seconds_total", "skewscope_work_units_total",
        "skewscope_moe_tokens_total", "skewscope_moe_dropped_tokens_total", "skewscope_moe_expert_max_mean_ratio",
        "skewscope_rank_heartbeat_age_seconds", "skewscope_hook_internal_errors_total", "skewscope_archive_bytes",
        "skewscope_archive_errors_total", "skewscope_spool_events_total", "skewscope_spool_lost_events_total",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._place.board.pop("inspected", None)  # who left it there may be gone
        self._watch = RingWatch(place)
        self._jobs: dict[str, JobTotals] = {}
        self._meetings: dict[tuple[str, int], Meeting] = {}
        self._events: Counter[str] = Counter()
        self._had_rings = False
        self._slots: dict[str, str] = {}
        self._unix_s = 0.0  # Unix time less monotonic time

    def collect(self) -> Iterable[Sample]:
        """Return what all ranks did; raises NoData where no hook has ever written here."""
        now_s = self._place.clock_s()
        try:
            rings = list(self._watch.look(now_s))
        except FileNotFoundError:
            rings = []
        limit = max(LEAST_DRAIN, CAPACITY // max(len(rings), 1))
        self._unix_s = self._place.now_s() - now_s
        self._slots = {str(gpu.get("uuid")): str(gpu.get("slot", "")) for gpu in self._place.board.get("gpus") or ()}
        for ring in rings:
            self._read(ring, limit, now_s)
        for meeting in self._meetings.values():
            meeting.settle()
        self._forget(now_s)
        self._tell(now_s)
        self._had_rings = self._had_rings or bool(rings) or self._watch.lost.total() > 0
        if not self._had_rings:
            raise NoData(f"no ring in {self._place.spool}: no process runs under the hook")
        return self._samples(now_s)

    def _read(self, ring: Ring, limit: int, now_s: float) -> None:
        try:
            drained = ring.reader.drain(limit)
        except OSError:
            ring.ended_looks = max(ring.ended_looks, 0)
            drained = Drained()
        self._watch.lost["overwritten"] += drained.overwritten
        self._watch.lost["malformed"] += drained.malformed
        raw = ring.fresh(drained.raw, now_s)
        if raw and self._watch.owner(ring):
            for kind, count in columns.kind_counts(raw):
                self._events[kind] += count
            self._add(ring, raw, now_s)
        elif raw:
            self._watch.lost["duplicate"] += len(raw) // RECORD_BYTES
        ring.look_at_groups(now_s)
        ring.keep(now_s)

    def _totals(self, ring: Ring) -> RankTotals:
        gpu = self._gpu(ring)
        if ring.totals is None:
            header = ring.header
            job = self._jobs.setdefault(header.job, JobTotals(header.job))
            ring.totals = RankTotals(header.job, str(header.rank), gpu, job)
        elif ring.totals.labels[2] != gpu:
            ring.totals.relabel(gpu)
        return ring.totals

    def _gpu(self, ring: Ring) -> str:
        """Return the slot of a ring's GPU: by identity if that is known, else by the number that its process sees."""
        if ring.header.gpu_uuid:
            slot = self._slots.get(ring.header.gpu_uuid)
            if slot is not None:
                return slot
        return str(ring.header.device) if ring.header.device >= 0 else ""

    def _add(self, ring: Ring, raw: bytes | bytearray, now_s: float) -> None:
        totals = self._totals(ring)
        for rows in columns.split(raw):
            if rows.kind == columns.COLLECTIVE:
                self._add_calls(ring, totals, rows, now_s)
            elif rows.kind == columns.PHASE:
                totals.add_phase(_named(PHASES, rows.op), rows.spent())
            elif rows.kind == columns.STEP:
                spent_ns = rows.spent()
                totals.add_steps(spent_ns, self._unix_s + (rows.starts()[-1] + spent_ns[-1]) / 1e9)
            elif rows.kind == columns.WORK:
                totals.add_work(_named(UNITS, rows.op), sum(size for size in rows.sizes() if size > 0))
        for step, layer, counts in columns.experts(raw):
            totals.experts.add(step, layer, counts)

    def _add_calls(self, ring: Ring, totals: RankTotals, rows: columns.Rows, now_s: float) -> None:
        progress = ring.group(rows.group)
        op, label = _named(OPS, rows.op), progress.label if progress else "unknown"
        seqs, starts, spent_ns = rows.seqs(), rows.starts(), rows.spent()
        ordered = totals.add_calls(op, label, progress.ranks if progress else 0, spent_ns, rows.sizes(), now_s)
        longest = spent_ns.index(ordered[-1])
        end_s = self._unix_s + (starts[longest] + ordered[-1]) / 1e9
        totals.exemplify(op, label, seqs[longest], ordered[-1], now_s, end_s)
        if progress is None:
            return
        if rows.op in PAIRWISE:
            progress.last_pair_ns = max(progress.last_pair_ns, max(starts))
            return
        progress.last_seq = max(progress.last_seq, max(seqs))
        if progress.ranks > 1 and min(starts) > 0:
            meeting = self._meetings.setdefault(progress.key, Meeting())
            meeting.join(progress.arrivals)
            progress.arrivals.add(seqs, starts)

    def _forget(self, now_s: float) -> None:
        for ring in self._watch.forget(now_s):
            for progress in ring.groups.values():
                meeting = self._meetings.get(progress.key)
                if meeting is not None:
                    meeting.leave(progress.arrivals)
                    if not meeting.members:
                        del self._meetings[progress.key]
        alive = {ring.header.job for ring in self._watch.rings.values()}
        for job in [job for job in self._jobs if job not in alive]:
            del self._jobs[job]

    def _shown(self, inspected: Collection[str]) -> list[Ring]:
        """Return the rings whose series are exported: a silent rank's vanish, and come back with it."""
        rings = self._watch.rings.values()
        return [
            ring
            for ring in rings
            if ring.silent_looks < KEPT_LOOKS and ring.ended_looks < KEPT_LOOKS and not ring.was_over
            if self._watch.owner(ring) and ring.header.job not in inspected
        ]

    def _tell(self, now_s: float) -> None:
        """Leave on the board which jobs and ranks run here, and which calls have been open for how long."""
        self._place.board["ringed"] = sorted({ring.header.job for ring in self._watch.rings.values()})
        ranks: list[dict[str, Any]] = []
        waiting: list[dict[str, Any]] = []
        for ring in self._watch.rings.values():
            if ring.ended_looks >= 0 or not self._watch.owner(ring):
                continue
            header = ring.header
            who = {"job_id": header.job, "rank": header.rank}
            where = {"pid": header.pid, "uid": ring.reader.uid, "gpu": self._gpu(ring)}
            ranks.append({**who, **where, "start_ns": header.started_ns})
            for progress, seq, age_s in ring.waiting:
                if age_s and len(waiting) < MOST_OPEN_TOLD:
                    waiting.append({**who, "group": progress.label, "seq": seq, "start_s": now_s - age_s})
        self._place.board["ranks"] = ranks
        self._place.board["in-flight"] = waiting

    def _samples(self, now_s: float) -> list[Sample]:
        found: list[Sample] = []
        # What another collector has told of a job stays on the page until its next look, which leaves the job to us.
        inspected: Collection[str] = self._place.board.get("inspected") or ()
        for ring in self._shown(inspected):
            totals = self._totals(ring)
            found += totals.samples(now_s)
            found += self._progress(ring, totals.labels, now_s)
        for name, job in self._jobs.items():
            found += job.samples(now_s) if name not in inspected else ()
        found += [("skewscope_spool_events_total", (kind,), count) for kind, count in self._events.items()]
        archive = self._watch.archive
        if archive is not None:
            self._watch.lost["not_archived"] = archive.lost_records
            found.append(("skewscope_archive_errors_total", (), archive.errors))
            if archive.size_bytes >= 0:
                found.append(("skewscope_archive_bytes", (), archive.size_bytes))
        for reason in ("overwritten", "malformed", "rejected", "duplicate", "not_archived"):
            found.append(("skewscope_spool_lost_events_total", (reason,), self._watch.lost[reason]))
        return found

    def _progress(self, ring: Ring, labels: tuple[str, str, str], now_s: float) -> Iterable[Sample]:
        age_s = now_s - ring.header.heartbeat_ns / 1e9
        yield "skewscope_rank_heartbeat_age_seconds", labels, max(age_s, 0.0)
        yield "skewscope_hook_internal_errors_total", labels, ring.header.internal_errors
        for progress, newest, open_s in ring.waiting:
            named = (*labels, progress.label)
            if newest:
                yield "skewscope_collective_last_sequence", named, newest
            behind = newest - progress.last_seq if progress.last_seq else 1
            yield "skewscope_collective_in_flight", named, max(behind, 1) if open_s else 0
            yield "skewscope_collective_in_flight_age_seconds", named, open_s
            if progress.arrivals.scored:
                late_s = progress.arrivals.late_ns / 1e9
                yield "skewscope_collective_local_lateness_seconds_total", named, late_s
                yield "skewscope_collective_local_last_arrivals_total", named, progress.arrivals.last_arrivals


def _named(names: tuple[str, ...], index: int) -> str:
    return names[index] if index < len(names) else names[0]
