import os
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources import gather
from skewscope.sources.balance_log import BalanceLog

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

VLLM = (
    "(EngineCore_DP0 pid=7) INFO 11-21 02:00:0{at} [eplb_state.py:636] EPLB step: {step} for model m/x: "
    "avg_tokens=1006.00, max_tokens=1671, balancedness={ratio}, steps until the next rearrangement: 40"
)
OLD = "INFO 11-21 02:00:00 [eplb_state.py:300] EPLB step: avg_tokens=10.50, max_tokens=21, balancedness=0.5000"
MOVED = "INFO 11-21 02:00:05 [eplb_state.py:700] Rearranged experts   in 13.28 s."
REHEARSED = "INFO 11-21 01:59:00 [eplb_state.py:700] Rearranged experts (profile) in 1.50 seconds."
CONFIG = "INFO 11-21 01:00:00 [args.py:1] eplb_config=EPLBConfig(window_size=1000, step_interval=40, use_async=True)"
SGLANG = (
    "[2026-11-21 02:00:00 TP0] [Expert Balancedness] forward_pass_id=12 current_pass_balancedness=0.620 "
    "last_10_average_balancedness=0.620 gpu_physical_count_sum=4024"
)
SGLANG_MOVED = "[2026-11-21 02:00:01 TP0] [EPLBManager] rebalance end time=1.802s"
SGLANG_SENT = (
    "[2026-11-21 02:00:01 TP0] [ExpertLocationUpdater] isend_nbytes_of_gpu=[1073741824, 1073741824] "
    "isend_nbytes_of_node=[2]"
)
ASCEND = (
    "INFO 11-21 02:00:00 [eplb_worker.py:99] [eplb/worker] Expert hotness imbalance, current: mean=2.000 max=4.000, "
    "updated: mean=1.250 max=1.600"
)
ASCEND_NEW = ASCEND.replace("mean=2.000 max", "mean=2.000 p95=3.000 max")
MEGATRON = (
    " [2026-11-21 02:00:00] iteration      100/     500 | consumed samples: 64 | lm loss: 2.0E+00 | "
    "load_balancing_loss: 1.250000E+00 | seq_load_balancing_loss: 2.0E+00 | z_loss: 3.0E-01 | loss scale: 1.0 |"
)


def read(tmp_path, *lines, year=2026):
    path = tmp_path / "server.log"
    path.write_text("\n".join(lines) + "\n")
    at = datetime(year, 12, 1, tzinfo=UTC).timestamp()
    os.utime(path, (at, at))
    assert BalanceLog().sniff(path.read_bytes(), path.name) > 0
    return gather([path])


def columns(recording, *names):
    return recording.tables["balance_reports"][list(names)].values.tolist()


def test_lines_of_vllm(tmp_path):
    recording = read(tmp_path, *(VLLM.format(at=at, step=100 * at, ratio="0.6020") for at in (1, 2)), MOVED, REHEARSED)
    assert columns(recording, "step", "layer", "definition", "balance_ratio", "mean_tokens", "max_tokens") == [
        [100, -1, "vllm", 0.602, 1006, 1671], [200, -1, "vllm", 0.602, 1006, 1671]
    ]  # fmt: skip
    at = int(datetime(2026, 11, 21, 2, 0, 1, tzinfo=UTC).timestamp())
    assert recording.tables["balance_reports"]["t_ns"].tolist() == [at * 10**9, (at + 1) * 10**9]
    event = recording.tables["events"].to_dict("records")
    assert [(one["event"], one["message"]) for one in event] == [("moe-rebalance", "experts rearranged in 13.28 s")]
    assert event[0]["t_ns"] == (at + 4) * 10**9 and recording.warnings == ()


def test_older_lines_are_distrusted(tmp_path):
    recording = read(tmp_path, OLD, OLD)
    assert columns(recording, "step", "definition", "balance_ratio") == [[0, "vllm-old", 0.5], [1, "vllm-old", 0.5]]
    assert any("2 lines of a vLLM that does not name the step" in warning for warning in recording.warnings)


def test_a_number_that_its_own_tokens_contradict_is_told(tmp_path):
    recording = read(tmp_path, VLLM.format(at=1, step=5, ratio="0.9300"))
    assert any("balancedness 0.9300, but 1006 / 1671 tokens = 0.6020" in warning for warning in recording.warnings)


def test_a_window_longer_than_the_interval_is_told(tmp_path):
    recording = read(tmp_path, CONFIG, VLLM.format(at=1, step=5, ratio="0.6020"))
    assert any("window of 1000 steps is longer than the 40 steps" in warning for warning in recording.warnings)


def test_lines_of_sglang(tmp_path):
    recording = read(tmp_path, SGLANG, SGLANG_MOVED, SGLANG_SENT)
    assert columns(recording, "step", "definition", "balance_ratio") == [[12, "sglang", 0.62]]
    assert recording.tables["events"]["message"].tolist() == [
        "experts rearranged in 1.80 s", "2.000 GiB of expert weights sent"
    ]  # fmt: skip


@pytest.mark.parametrize("line", [ASCEND, ASCEND_NEW])
def test_lines_of_vllm_ascend(tmp_path, line):
    assert columns(read(tmp_path, line), "step", "definition", "balance_ratio") == [
        [-1, "ascend", 0.5], [-1, "ascend-worst", 0.25], [-1, "ascend-forecast", 0.8],
        [-1, "ascend-forecast-worst", 0.625],
    ]  # fmt: skip


def test_lines_of_megatron(tmp_path):
    rows = columns(read(tmp_path, MEGATRON), "step", "phase", "definition", "balance_ratio")
    assert rows == [[100, "train", "megatron-load-balancing-loss", 0.8],
                    [100, "train", "megatron-seq-load-balancing-loss", 0.5]]  # fmt: skip


def test_layers_of_megatron(tmp_path):
    line = " iteration 7/ 9 | moe/load_balancing_loss_layer_3: 1.6E+00 | max_overload_factor: 4.0 |"
    assert columns(read(tmp_path, MEGATRON, line), "step", "layer", "definition", "balance_ratio")[2:] == [
        [7, 3, "megatron-load-balancing-loss", 0.625], [7, -1, "megatron-overload-max", 0.25]
    ]  # fmt: skip


def test_a_log_of_an_engine_without_balance_says_what_to_switch_on(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("INFO 11-21 02:00:00 [api_server.py:10] Started\n")
    assert BalanceLog().sniff(path.read_bytes(), path.name) == 0.35
    with pytest.raises(Unreadable, match="log_balancedness"):
        BalanceLog().read(path)


@pytest.mark.parametrize(
    "text",
    [b"2026-11-21 02:00:00 kernel: x", b"step,layer", b"[1] EPLB", b"iteration 5/10 | loss: 2", b"\0" + OLD.encode()],
)
def test_other_logs_are_not_claimed(text):
    assert BalanceLog().sniff(text, "x.log") == 0


def test_numbers_beyond_all_sense_are_left_out(tmp_path):
    broken = SGLANG.replace("0.620", "0.6.2.0"), ASCEND.replace("mean=2.000", "mean=0.000")
    recording = read(tmp_path, *broken)
    assert len(recording.tables["balance_reports"]) == 3
    assert any("2 numbers that cannot be a balance are left out" in warning for warning in recording.warnings)


AT = int(datetime(2026, 11, 21, 2, tzinfo=UTC).timestamp())
moments = st.tuples(st.integers(0, 59), st.integers(0, 59))


@drawn
@given(
    st.lists(st.tuples(st.sampled_from(["vllm", "old", "sglang", "noise"]), moments, st.integers(1, 9999),
                       st.integers(1, 10**6)), min_size=1, max_size=6), st.booleans(),
)  # fmt: skip
def test_every_line_of_vllm_and_sglang_is_a_report(tmp_path, told, prefixed):
    lines, want, old = [], [], 0
    for number, (kind, (minute, second), ratio, tokens) in enumerate(told):
        when, balance = f"02:{minute:02d}:{second:02d}", ratio / 10_000
        t_ns = (AT + 60 * minute + second) * 10**9
        head = f"{'(EngineCore_DP0 pid=7) ' * prefixed}INFO 11-21 {when} [eplb_state.py:636] EPLB step:"
        text = f"avg_tokens={tokens * balance:.2f}, max_tokens={tokens}, balancedness={balance:.4f}"
        if kind == "vllm":
            lines.append(f"{head} {number} for model m/\u00fc x: {text}, steps until the next rearrangement: 4")
            want.append((number, "vllm", balance, round(tokens * balance, 2), tokens, t_ns))
        elif kind == "old":
            lines.append(f"{head} {text}")
            want.append((old, "vllm-old", balance, round(tokens * balance, 2), tokens, t_ns))
            old += 1
        elif kind == "sglang":
            lines.append(f"[2026-11-21 {when} TP0] [Expert Balancedness] forward_pass_id={tokens} "
                         f"current_pass_balancedness={balance:.4f}")  # fmt: skip
            want.append((tokens, "sglang", balance, -1, -1, t_ns))
        else:
            lines.append(f"INFO 11-21 {when} [a.py:1] balancedness=0.5 \u2028 {text}")
    path = tmp_path / "server.log"
    path.write_text("\n".join(lines) + "\n")
    os.utime(path, (AT + 86_400, AT + 86_400))
    if not want:
        with pytest.raises(Unreadable, match="without a line of expert balance"):
            BalanceLog().read(path)
        return
    rows = frame(*BalanceLog().read(path).batches[0]).fillna({"mean_tokens": -1, "max_tokens": -1})
    names = ["step", "definition", "balance_ratio", "mean_tokens", "max_tokens", "t_ns"]
    assert sorted(rows[names].itertuples(index=False, name=None)) == sorted(want)


def test_half_a_number_at_the_end_is_no_balance(tmp_path):
    path = tmp_path / "server.log"
    path.write_text(SGLANG + "\n" + SGLANG[: SGLANG.index("0.620") + 3])
    reading = BalanceLog().read(path)
    assert reading.events == 1 and reading.status == "partial" and "no end" in reading.error
