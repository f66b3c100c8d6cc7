"""What an engine itself says of its balance; `definition` names whose formula it is, for they are not the same.

- vllm: sum over layers of the mean load of ranks over the sum of the maxima; vllm-old: from a version that does not
  name the step, of which some reduced over layers instead of ranks.
- sglang: mean over all layers, dense ones too, of mean over maximum of ranks.
- vllm-min, vllm-p50, vllm-p90, vllm-avg: of the layers' own ratios.
- ranks: mean over maximum of the ranks' tokens of one layer, worked out here from the tokens that the engine gives.
- trtllm: 1 / (1 + imbalance ratio).
- ascend, ascend-worst: one over the mean over layers, and over the maximum, of maximum over mean; with -forecast what
  the planner promises.
- megatron-NAME: one over the loss NAME of the router, which is 1 where the load is even.
- megatron-overload, megatron-overload-max: one over the factor of maximum over mean.
"""

from ._schema import JOB, SOURCE, Column, Table

TABLE = Table(
    "balance_reports",
    __doc__ or "",
    ("job", "step", "layer", "phase", "definition", "t_ns", "source"),
    (
        JOB,
        Column("step", "i64", "step number, -1 where only the time is known", ordinal=True),
        Column("layer", "i32", "model layer, -1 for all of them", ordinal=True),
        Column("phase", "str", "prefill, decode, train; empty where nobody tells", optional=True),
        Column("definition", "str", "whose formula"),
        Column("balance_ratio", "f64", "1 is even"),
        Column("mean_tokens", "f64", "mean tokens of a rank, of layer -1 summed over layers", optional=True),
        Column("max_tokens", "f64", "tokens of the busiest rank, of layer -1 summed over layers", optional=True),
        Column("t_ns", "i64", "time, Unix epoch", optional=True),
        SOURCE,
    ),
)
