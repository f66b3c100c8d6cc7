import pytest

from skewscope.metrics import METRICS
from skewscope.signals.identity import identify


def named(metric, **labels):
    return identify(metric, labels)


@pytest.mark.parametrize(
    ("metric", "labels", "expected"),
    [
        ("skewscope_gpu_clock_event_active", {"gpu": "3", "uuid": "GPU-x", "reason": "hw_thermal"},
         ("gpu3", "", -1, "reason=hw_thermal")),
        ("skewscope_rdma_port_up", {"device": "mlx5_0", "port": "1", "layer": "logical"},
         ("mlx5_0", "", -1, "layer=logical")),
        ("skewscope_rdma_port_up", {"device": "mlx5_0", "port": "2", "layer": "logical"},
         ("mlx5_0/2", "", -1, "layer=logical")),
        ("skewscope_nic_errors_total", {"device": "ens1", "port": "", "error": "crc"}, ("ens1", "", -1, "error=crc")),
        ("skewscope_pcie_link_width_lanes", {"device": "0000:1b:00.0", "kind": "max"},
         ("0000:1b:00.0", "", -1, "kind=max")),
        ("skewscope_collectives_total",
         {"job_id": "j", "rank": "12", "gpu": "4", "op": "all_reduce", "group": "dp"},
         ("gpu4", "j", 12, "op=all_reduce,group=dp")),
        ("skewscope_collectives_total", {"group": "dp", "op": "all_reduce", "rank": "0", "job_id": "j", "gpu": ""},
         ("", "j", 0, "op=all_reduce,group=dp")),
        ("skewscope_ras_behind_calls", {"job_id": "j", "op": "all_gather", "rank": "3"}, ("", "j", 3, "op=all_gather")),
        ("skewscope_gpu_nic_affinity_info", {"gpu": "0", "uuid": "u", "device": "mlx5_0", "level": "same_switch"},
         ("gpu0", "", -1, "device=mlx5_0,level=same_switch")),
        ("skewscope_input_ready_ratio", {"job": "train", "rank": "1"}, ("", "train", 1, "")),
        ("skewscope_host_numa_memory_bytes", {"node": "1", "kind": "free"}, ("", "", -1, "node=1,kind=free")),
        ("skewscope_step_duration_seconds_bucket", {"job_id": "j", "le": "0.5"}, ("", "j", -1, "le=0.5")),
        ("skewscope_host_cpus", {}, ("", "", -1, "")),
    ],
)  # fmt: skip
def test_identity_labels_become_columns(metric, labels, expected):
    assert identify(metric, labels) == expected


def test_labels_of_a_scrape_do_not_split_a_series():
    added = {"instance": "n1:9400", "job": "skewscope", "cluster": "c"}
    assert named("skewscope_gpu_power_watts", gpu="1", kind="average", **added) == ("gpu1", "", -1, "kind=average")


def test_an_xid_of_an_unknown_gpu_has_no_device():
    found = named("skewscope_gpu_xid_errors_total", gpu="", uuid="", xid="79", source="kmsg")
    assert found == ("", "", -1, "xid=79,source=kmsg")


def test_of_an_undeclared_metric_all_labels_stay():
    assert named("other_total", b="2", device="d", a="1", empty="") == ("d", "", -1, "a=1,b=2")


@pytest.mark.parametrize("rank", ["", "-1", "x", "1.0", "99999999999"])
def test_a_rank_that_is_no_rank_is_unknown(rank):
    assert named("skewscope_steps_total", job_id="j", rank=rank, gpu="0")[2] == -1


def test_the_text_can_be_taken_apart_again():
    *_, text = named("skewscope_nfs_timeouts_total", mount="/a,b=c\nd")
    assert text == "mount=/a;b=c d"
    assert dict(part.split("=", 1) for part in text.split(",")) == {"mount": "/a;b=c d"}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_keeps_what_tells_its_series_apart(metric):
    labels = {name: f"{9 - at}" for at, name in enumerate(metric.labels)}
    device, job, rank, text = identify(metric.name, labels)
    told = [part.split("=")[0] for part in text.split(",") if part]
    gone = [name for name in metric.labels if name not in told]
    assert told == [name for name in metric.labels if name in told]
    assert set(gone) <= {"gpu", "uuid", "device", "port", "job_id", "job", "rank"}
    assert bool(device) == bool({"gpu", "device"} & set(gone)) and (rank >= 0) == ("rank" in gone)
    assert bool(job) == bool({"job_id", "job"} & set(gone))
