import csv
import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.moe.loads import of_tables
from skewscope.sources import gather
from skewscope.sources.canonical_table import CanonicalTable
from skewscope.sources.expert_counts_csv import ExpertCountsCsv
from skewscope.sources.expert_pairs_csv import ExpertPairsCsv
from skewscope.sources.step_log import StepLog

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(tmp_path, text, name="chat.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def loads_of(path):
    return of_tables(gather([path]).tables)


def test_older_dumps_of_sglang(tmp_path):
    text = "layer_id,expert_id,count\n3,0,10\n3,1,20\n4,0,5\n4,1,25\n"
    (loads,) = loads_of(write(tmp_path, text, "expert_distribution_20250301.csv"))
    assert loads.counts.tolist() == [[[10, 20], [5, 25]]] and loads.layers.tolist() == [3, 4]


def test_a_column_per_expert(tmp_path):
    """HarMoEny: a workload per data set, its iterations are steps."""
    text = "dataset,iteration,layer_idx,0,1,2\nwmt,0,1,5,6,7\nwmt,1,1,1,2,3\ncode,0,1,9,0,0\n"
    found = loads_of(write(tmp_path, text))
    assert {one.job: one.counts.tolist() for one in found} == {
        "wmt": [[[5, 6, 7]], [[1, 2, 3]]], "code": [[[9, 0, 0]]]
    }  # fmt: skip


def test_picks_in_each_row(tmp_path):
    text = 'layer_id,expert_ids\n0,"[3, 1]"\n0,1 2\n1,"0;3"\n1,x\n'
    path = write(tmp_path, text)
    (loads,) = loads_of(path)
    assert loads.counts.tolist() == [[[0, 2, 1, 1], [1, 0, 0, 1]]] and loads.top_k == 2
    assert ExpertCountsCsv().read(path).error == "1 rows without whole numbers are left out"


def test_phases_and_ranks(tmp_path):
    text = "step,layer,expert,tokens,rank,phase\n" + "".join(
        f"{step},0,{expert},{step + expert + rank},{rank},decode\n"
        for step in (0, 1) for expert in (0, 1) for rank in (0, 1)
    )  # fmt: skip
    (loads,) = loads_of(write(tmp_path, text))
    assert loads.counts.tolist() == [[[1, 3]], [[3, 5]]] and loads.phase == "decode"


def test_top_one_rows_repeat_the_others(tmp_path):
    text = "model,domain,mode,layer,expert,count\nm,c4,topk,0,0,8\nm,c4,topk,0,1,2\nm,c4,top1,0,0,5\nm,c4,top1,0,1,0\n"
    recording = gather([write(tmp_path, text)])
    (loads,) = of_tables(recording.tables)
    assert loads.counts.tolist() == [[[8, 2]]] and loads.job == "m/c4"
    assert any("mode top1 repeat picks" in warning for warning in recording.warnings)


def test_rows_that_are_no_counts_cost_themselves_only(tmp_path):
    text = "layer,expert,tokens\n0,0,5\n0,1,-3\n0,2,x\n0,3\n0,1,7.5\n0,1,\n0,1,7\n"
    reading = ExpertCountsCsv().read(write(tmp_path, text))
    assert reading.batches[0][1]["routed_tokens"].tolist() == [5, 7]
    assert reading.status == "partial" and "1 damaged lines are left out: line of 2 instead of 3" in reading.error


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("layer,expert,tokens\n", "holds no numbers"), ("layer,expert,tokens\na,b,c\n", "holds no numbers"),
        ("layer,expert,tokens\n0,99999999,1\n", "cannot be meant"), ("layer,expert\n0,1\n", "no counts per layer"),
        ("layer,0,1\n0,-1,5\n", "no row with whole numbers"), ("layer,expert_ids\n0,x\n", "not one pick"),
    ],
)  # fmt: skip
def test_what_are_no_counts_is_refused(tmp_path, text, match):
    with pytest.raises(Unreadable, match=match):
        ExpertCountsCsv().read(write(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    ["step,rank,step_ms\n1,0,5\n", "job,step,layer,expert,rank,routed_tokens\nj,0,0,0,0,1\n", "layer,time\n0,1\n",
     ",worker,gpu,time,batch_time_norm\n", "layer,expert\0,tokens\n", "a,b\n1,2\n"],
)  # fmt: skip
def test_other_tables_are_not_taken(text):
    """Each of them goes to its own reader, or to none."""
    head = text.encode()
    own = max(StepLog().sniff(head, "x.csv"), CanonicalTable().sniff(head, "x.csv"))
    assert ExpertCountsCsv().sniff(head, "x.csv") <= own and ExpertPairsCsv().sniff(head, "x.csv") == 0


def test_pairs_of_layers(tmp_path):
    text = "layer_a,layer_b,expert_a,expert_b,count\n0,7,1,2,30\n0,7,1,3,4\n7,15,2,2,x\n"
    path = write(tmp_path, text)
    assert ExpertCountsCsv().sniff(text.encode(), "x") == 0 and ExpertPairsCsv().sniff(text.encode(), "x") > 0.9
    reading = ExpertPairsCsv().read(path)
    rows = gather([path]).tables["expert_pairs"]
    assert rows[["layer", "next_layer", "expert", "next_expert", "routed_tokens"]].values.tolist() == [
        [0, 7, 1, 2, 30], [0, 7, 1, 3, 4]
    ]  # fmt: skip
    assert (reading.status, reading.error) == ("partial", "1 rows without whole numbers are left out")
    with pytest.raises(Unreadable, match="no row with whole numbers"):
        ExpertPairsCsv().read(write(tmp_path, text.replace(",30", ",-1").replace(",4\n", ",-1\n").replace(",x", ",-3")))


def test_real_counts_of_two_models(shared):
    """What the data's own page says: every token's k picks, and how hot the hottest expert is."""
    found = {one.job: one for one in loads_of(shared / "moe-olmoe/expert_counts.csv")}
    assert len(found) == 9 and all(one.layers.tolist() == [0, 7, 15] for one in found.values())
    olmoe = found["olmoe-1b-7b/c4"]
    assert olmoe.counts.shape == (1, 3, 64) and (olmoe.total().sum(axis=1) == 1_671_168).all()
    assert (found["mixtral-8x7b/c4"].total().sum(axis=1) == 417_792).all()
    hottest = {job: (one.total().max(axis=1) / one.total().mean(axis=1)).mean() for job, one in found.items()}
    assert hottest["olmoe-1b-7b/c4"] == pytest.approx(2.7, abs=0.05)
    assert hottest["olmoe-1b-7b/arxiv"] == pytest.approx(7.2, abs=0.05)
    assert hottest["mixtral-8x7b/c4"] == pytest.approx(1.11, abs=0.01)


def test_real_pairs_of_two_models(shared):
    rows = gather([shared / "moe-olmoe/crosslayer_counts.csv.gz"]).tables["expert_pairs"]
    sums = rows.groupby(["job", "layer", "next_layer"], observed=True)["routed_tokens"].sum()
    assert set(sums["olmoe-1b-7b/c4"]) == {1_671_168} and set(sums["mixtral-8x7b/book"]) == {417_792}
    assert np.array_equal(sums.reset_index()["layer"].unique(), [0, 7])


SPELLED = {
    "layer": ["layer", "layer_id", "Layer_Idx"], "expert": ["expert", "expert_id", "logical_expert"],
    "tokens": ["tokens", "count", "load"], "step": ["step", "iteration"], "rank": ["ep_rank"],
}  # fmt: skip
cells = st.tuples(st.integers(0, 99), st.integers(0, 63), st.integers(0, 9), st.integers(0, 7))
workloads = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), max_size=3)


@drawn
@given(st.dictionaries(cells, st.integers(0, 2**52), min_size=1, max_size=8), st.data(), workloads, st.booleans())
def test_a_row_per_expert_holds_what_was_written(tmp_path, counts, data, model, bom):
    names = {what: data.draw(st.sampled_from(spellings)) for what, spellings in SPELLED.items()}
    order = data.draw(st.permutations([*SPELLED, "model"]))
    place = io.StringIO(newline="")
    out = csv.writer(place)
    out.writerow([names.get(what, what) for what in order])
    for (layer, expert, step, rank), tokens in counts.items():
        told = {"layer": layer, "expert": expert, "step": step, "rank": rank, "tokens": tokens, "model": model}
        out.writerow([told[what] for what in order])
    path = write(tmp_path, "\ufeff" * bom + place.getvalue())
    found = frame(*ExpertCountsCsv().read(path).batches[0])
    columns = ["layer", "expert", "step", "rank", "routed_tokens"]
    rows = sorted(found[columns].itertuples(index=False, name=None))
    assert rows == sorted((*cell, tokens) for cell, tokens in counts.items())
    assert set(found["job"]) == {model or "chat"}


@drawn
@given(st.integers(2, 5).flatmap(lambda width: st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.lists(st.integers(0, 10**6), min_size=width, max_size=width)),
    min_size=1, max_size=4, unique_by=lambda row: row[:2])), st.randoms(use_true_random=False))  # fmt: skip
def test_a_column_per_expert_in_any_order_holds_what_was_written(tmp_path, told, chance):
    width = len(told[0][2])
    order = ["iteration", "layer_idx", *map(str, range(width))]
    chance.shuffle(order)
    lines = [order]
    for step, layer, row in told:
        cells = {"iteration": step, "layer_idx": layer} | {str(at): one for at, one in enumerate(row)}
        lines.append([str(cells[name]) for name in order])
    path = write(tmp_path, "".join(",".join(line) + "\n" for line in lines))
    found = frame(*ExpertCountsCsv().read(path).batches[0])[["step", "layer", "expert", "routed_tokens"]]
    assert sorted(found.itertuples(index=False, name=None)) == sorted(
        (step, layer, expert, tokens) for step, layer, row in told for expert, tokens in enumerate(row)
    )


@drawn
@given(st.dictionaries(st.tuples(*[st.integers(0, 99)] * 4), st.integers(0, 2**52), min_size=1, max_size=8),
       st.permutations(["layer_a", "layer_b", "expert_a", "expert_b", "count", "domain"]))  # fmt: skip
def test_pairs_hold_what_was_written(tmp_path, pairs, order):
    lines = [order]
    for (layer, next_layer, expert, next_expert), tokens in pairs.items():
        told = {"layer_a": layer, "layer_b": next_layer, "expert_a": expert, "expert_b": next_expert, "count": tokens}
        lines.append([str(told.get(name, "d")) for name in order])
    reading = ExpertPairsCsv().read(write(tmp_path, "".join(",".join(line) + "\n" for line in lines)))
    found = frame(*reading.batches[0])
    columns = ["layer", "next_layer", "expert", "next_expert", "routed_tokens"]
    rows = sorted(found[columns].itertuples(index=False, name=None))
    assert rows == sorted((*cell, tokens) for cell, tokens in pairs.items()) and set(found["job"]) == {"d"}


@pytest.mark.parametrize("model", ["00", "NA", "null", "1e3", "true", "2026-01-05"])
@pytest.mark.parametrize("head", ["model", "Model", '"model"', " model"])
def test_a_model_is_called_as_it_is_written(tmp_path, model, head):
    path = write(tmp_path, f"layer,expert,count,{head}\n0,1,130,{model}\n")
    assert set(frame(*ExpertCountsCsv().read(path).batches[0])["job"]) == {model}


@pytest.mark.parametrize("reader", [ExpertCountsCsv, ExpertPairsCsv])
def test_a_last_row_without_an_end_may_be_half_a_number(tmp_path, reader):
    head = "layer,expert,count" if reader is ExpertCountsCsv else "layer_a,expert_a,layer_b,expert_b,count"
    row = "0,1,130" if reader is ExpertCountsCsv else "0,1,2,3,130"
    reading = reader().read(write(tmp_path, f"{head}\n{row}\n{row[:-1]}"))
    assert reading.batches[0][1]["routed_tokens"].tolist() == [130] and reading.status == "partial"
