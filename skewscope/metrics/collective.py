"""Collectives, steps and phases of ranks, what flight recorder dumps and NCCL RAS say of them."""

from __future__ import annotations

from ._metric import Metric

_RANK = ("job_id", "rank", "gpu")
_CALLS = (*_RANK, "op", "group")
_GROUP = (*_RANK, "group")
_OPS = {"op": (
    "other", "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "reduce", "gather", "scatter",
    "send", "recv", "barrier",
)}  # fmt: skip
_PHASES = {"phase": (
    "data", "h2d", "forward", "backward", "optimizer", "comm_wait", "checkpoint", "gc", "eval", "other",
)}  # fmt: skip
_DURATIONS = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0)
_STEPS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 60.0)

# fmt: off
METRICS = (
    Metric("skewscope_collective_duration_seconds", "histogram", "seconds",
           "Seconds in one collective, all ranks of the node together; exemplars name rank and sequence number",
           ("job_id", "op", "group"), _OPS, _DURATIONS),
    Metric("skewscope_collectives_total", "counter", "", "Collectives that a rank finished", _CALLS, _OPS),
    Metric("skewscope_collective_seconds_total", "counter", "seconds",
           "Seconds of a rank in collectives, waiting for others included: the late rank has the smallest sum",
           _CALLS, _OPS),
    Metric("skewscope_collective_min_seconds", "gauge", "seconds",
           "Shortest collective of a rank in the last 15 s, nearly free of waiting", _CALLS, _OPS),
    Metric("skewscope_collective_bytes_total", "counter", "bytes", "Bytes of the vectors in a rank's collectives",
           _CALLS, _OPS),
    Metric("skewscope_collective_bus_bandwidth_bytes_per_second", "gauge", "bytes_per_second",
           "Median of the last 15 s over collectives of at least 1 MiB: bytes that cross the slowest link by the "
           "algorithm's lower bound, over the duration", ("job_id", "op", "group"), _OPS),
    Metric("skewscope_collective_last_sequence", "gauge", "",
           "Number of the newest collective that a rank began in a group; equal on all ranks unless one is missing",
           _GROUP),
    Metric("skewscope_collective_in_flight", "gauge", "", "Collectives that a rank began and has not finished", _GROUP),
    Metric("skewscope_collective_in_flight_age_seconds", "gauge", "seconds",
           "Seconds since the newest unfinished collective of a rank began, 0 where none is open", _GROUP),
    Metric("skewscope_collective_local_lateness_seconds_total", "counter", "seconds",
           "Seconds by which a rank came after the first rank of this node at the same collective", _GROUP),
    Metric("skewscope_collective_local_last_arrivals_total", "counter", "",
           "Collectives at which a rank came last of this node's ranks", _GROUP),
    Metric("skewscope_steps_total", "counter", "", "Training steps that a rank finished", _RANK),
    Metric("skewscope_step_seconds_total", "counter", "seconds", "Seconds of a rank in training steps", _RANK),
    Metric("skewscope_step_duration_seconds", "histogram", "seconds",
           "Seconds of one training step, all ranks of the node together", ("job_id",), {}, _STEPS),
    Metric("skewscope_step_last_timestamp_seconds", "gauge", "seconds",
           "Unix time at which a rank ended its newest step", _RANK),
    Metric("skewscope_phase_seconds_total", "counter", "seconds",
           "Seconds of a rank in each phase of its steps, by the clock of its host", (*_RANK, "phase"), _PHASES),
    Metric("skewscope_work_units_total", "counter", "", "Work that a rank was given, as its training program counts it",
           (*_RANK, "unit"), {"unit": ("tokens", "samples", "microbatches", "squared_tokens", "other")}),
    Metric("skewscope_moe_tokens_total", "counter", "", "Tokens that a rank routed to experts, over all layers", _RANK),
    Metric("skewscope_moe_dropped_tokens_total", "counter", "", "Tokens that a rank dropped at full experts", _RANK),
    Metric("skewscope_moe_expert_max_mean_ratio", "gauge", "ratio",
           "Load of the busiest expert over the mean of its layer, in the worst layer of the newest whole step", _RANK),
    Metric("skewscope_rl_seconds_total", "counter", "seconds",
           "Seconds of a rank in the phases of reinforcement learning: busy while it works in the phase that its job "
           "is in, idle while only others do", (*_RANK, "phase", "state"),
           {"phase": ("generation", "training"), "state": ("busy", "idle")}),
    Metric("skewscope_rl_answer_seconds", "gauge", "seconds",
           "Time to generate an answer of a rank's newest batch, the median one and the longest", (*_RANK, "statistic"),
           {"statistic": ("median", "max")}),
    Metric("skewscope_rank_heartbeat_age_seconds", "gauge", "seconds",
           "Seconds since a rank's process last gave a sign of life", _RANK),
    Metric("skewscope_hook_internal_errors_total", "counter", "", "Errors inside the hook of a rank's process", _RANK),
    Metric("skewscope_archive_bytes", "gauge", "bytes", "Bytes of raw records in this node's archive"),
    Metric("skewscope_archive_errors_total", "counter", "", "Writes to the archive that failed"),
    Metric("skewscope_flight_last_sequence", "gauge", "",
           "Newest collective of a rank in its flight recorder dump, by group", ("job_id", "rank", "group")),
    Metric("skewscope_flight_completed_sequence", "gauge", "",
           "Newest finished collective of a rank in its flight recorder dump, by group", ("job_id", "rank", "group")),
    Metric("skewscope_flight_behind_calls", "gauge", "",
           "Collectives that a rank has not begun although another dumped rank has: above 0 it is the missing one",
           ("job_id", "rank", "group")),
    Metric("skewscope_flight_absent_ranks", "gauge", "",
           "Ranks of a group of which no dump is here", ("job_id", "group")),
    Metric("skewscope_flight_mismatched_calls", "gauge", "",
           "Sequence numbers at which dumped ranks called different operations or sizes", ("job_id", "group")),
    Metric("skewscope_flight_dump_timestamp_seconds", "gauge", "seconds",
           "Unix time of the newest flight recorder dump of a job", ("job_id",)),
    Metric("skewscope_flight_unreadable_dumps", "gauge", "",
           "Files among the dumps that are none, damaged, or of another user than their job"),
    Metric("skewscope_flight_requests_total", "counter", "", "Dumps asked for since a collective hung", ("job_id",)),
    Metric("skewscope_ras_communicators", "gauge", "", "Communicators by what NCCL RAS says of them",
           ("job_id", "state"), {"state": ("healthy", "mismatch", "incomplete")}),
    Metric("skewscope_ras_ranks", "gauge", "", "Ranks that NCCL RAS misses, summed over communicators",
           ("job_id", "status"), {"status": ("missing", "unresponsive", "dead")}),
    Metric("skewscope_ras_count_spread", "gauge", "",
           "Largest difference between ranks of a communicator in how often they called an operation",
           ("job_id", "op"), _OPS),
    Metric("skewscope_ras_behind_calls", "gauge", "",
           "Calls by which a rank of the largest communicator is behind its furthest peer; the worst eight ranks only",
           ("job_id", "op", "rank"), _OPS),
)
