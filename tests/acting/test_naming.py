from skewscope.acting.naming import job_id, named
from skewscope.acts import Fleet, JobState, NodeState
from skewscope.policy.cases import Around, Case


def fleet(*jobs):
    nodes = {
        name: NodeState(name, jobs=tuple(one.id for one in jobs if name in one.nodes)) for name in ("n1", "n2", "n3")
    }
    return Fleet("slurm", nodes, {one.id: one for one in jobs})


def case(job="train", node="n3"):
    return Case("i", "gpu-thermal", node, node=node, job=job)


def test_a_job_is_found_by_id_name_or_as_the_only_one_there():
    one, two = JobState("7", "train", nodes=("n2", "n3")), JobState("8", "train", nodes=("n1",))
    assert job_id(case("8"), fleet(one, two)) == "8"
    assert job_id(case(), fleet(one, two)) == "7"
    assert job_id(case("llama"), fleet(one, two)) == "7"
    assert job_id(case(""), fleet(one, two)) == ""


def test_what_may_be_several_is_none():
    one, two = JobState("7", "a", nodes=("n3",)), JobState("8", "b", nodes=("n3",))
    assert job_id(case("llama"), fleet(one, two)) == "llama"
    elsewhere = JobState("9", "train", nodes=("n1",))
    assert job_id(case(), fleet(one, elsewhere)) == "train", "the job of that name runs elsewhere"


def test_what_is_known_of_a_job_goes_by_both_names():
    around = Around(1, since_checkpoint_s={"train": 60.0}, remaining_s={"train": 9.0, "other": 1.0})
    cases, told, names = named([case(), case("x", "")], around, fleet(JobState("7", "train", nodes=("n3",))))
    assert [one.job for one in cases] == ["7", "x"] and names == {"7": "train", "x": "x"}
    assert told.since_checkpoint_s == {"train": 60.0, "7": 60.0} and told.remaining_s["7"] == 9.0
