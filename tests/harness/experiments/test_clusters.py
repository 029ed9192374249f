"""Profiles of clusters: read, refused with the key and the fix, laid over a run's resources."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from msgspec import structs

from repro.config.identity import run_id
from repro.errors import UserError
from repro.harness.experiments.clusters import LocalCluster, SlurmCluster, load_cluster
from repro.harness.experiments.folders import experiments_dir
from tests.conftest import MakeConfig

LEAST = {"kind": "slurm", "gpus": 1, "cpus": 4, "memory_gb": 16, "minutes": 90}


def write(tmp_path: Path, **content: object) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_the_profiles_of_the_repository_are_found_by_name() -> None:
    assert isinstance(load_cluster("local"), LocalCluster)
    template = load_cluster("slurm")
    assert isinstance(template, SlurmCluster)
    assert (template.name, template.requeues) == ("slurm", 30)


def test_the_template_names_every_key_of_a_profile() -> None:
    path = Path(__file__).parents[3] / "experiments" / "clusters" / "slurm.yaml"
    fields = set(SlurmCluster.__struct_fields__) - {"name"} | {"kind"}
    assert set(yaml.safe_load(path.read_text())) == fields


def test_a_profile_may_be_a_file_anywhere(tmp_path: Path) -> None:
    cluster = load_cluster(write(tmp_path, **LEAST))
    assert isinstance(cluster, SlurmCluster)
    assert load_cluster(cluster.name) == cluster  # as a submission remembers it


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "slrum"}, r"mine\.yaml: unknown kind 'slrum'; nearest: slurm"),
        ({"kind": "slurm", "gpus": 1}, r"mine\.yaml: the key 'cpus' is missing"),
        (LEAST | {"partiton": "x"}, r"mine\.yaml: unknown key 'partiton'; .*: partition"),
        (LEAST | {"minutes": "90"}, r"mine\.yaml: minutes: '90' must be a whole number"),
        (LEAST | {"packed": 0}, r"mine\.yaml: packed: 0 must be at least 1"),
        (LEAST | {"name": "x"}, r"mine\.yaml: unknown key 'name'"),
        (LEAST | {"workers": 2}, r"mine\.yaml: unknown key 'workers'; nearest valid key: "),
        (LEAST | {"setup": "module load"}, r"setup: 'module load' must be a list"),
        (LEAST | {"memory_gb": -1}, r"memory_gb: -1 must be at least 0"),
        (
            LEAST | {"minutes": 2},
            r"mine\.yaml: warning_seconds: 120 is not shorter than minutes: 2: jobs would be",
        ),
        (
            LEAST | {"evaluation_minutes": 5, "warning_seconds": 300},
            "warning_seconds: 300 is not shorter than evaluation_minutes: 5",
        ),
        (LEAST | {"gpus_by": "gpus"}, r"gpus_by: 'gpus' is not one of gpus-per-node, gres"),
        (LEAST | {"gpus": 16}, r"mine\.yaml: gpus: 16 is more than gpus_per_node: 8"),
        (LEAST | {"extra": {"cpus_per_task": 2}}, "extra: 'cpus-per-task' is also set by cpus:"),
        (LEAST | {"extra": {"mem-per-cpu": "2G"}}, "'mem-per-cpu' is also set by memory_gb:"),
        (LEAST | {"extra": {"gpus-per-node": "a100:1"}}, "'gpus-per-node' is also set by gpus:"),
        (LEAST | {"extra": {"gres": "gpu:a100:1"}}, "asks for GPUs, as gpus: does"),
        (LEAST | {"extra": {"dependency": "afterok:1"}}, "'dependency' is how evaluations wait"),
        (
            LEAST | {"extra": {"mem_bind": "no", "mem-bind": "local"}},
            "'mem-bind' stands there twice",
        ),
        (LEAST | {"account": "a", "extra": {"account": "b"}}, "'account' is also set by account:"),
        (LEAST | {"profile": "slrum"}, r"mine\.yaml: profile: no profile 'slrum'.*nearest: slurm"),
        (LEAST | {"profile": "mine"}, "'mine' begins from this one"),
        ({"kind": "local", "partition": "x"}, r"mine\.yaml: unknown key 'partition'; nearest"),
        ({"kind": "local", "workers": -1}, r"mine\.yaml: workers: -1 must be at least 0"),
        ({"gpus": [0]}, r"mine\.yaml: the key 'kind' is missing: one of local, slurm"),
        (LEAST | {"resources": {"rank": 2}}, "resources: unknown key 'rank'; nearest: ranks"),
        (LEAST | {"resources": {"papre": {"ranks": 2}}}, "unknown scale 'papre'; nearest: paper"),
    ],
)
def test_a_mistake_in_a_profile_names_file_key_and_fix(
    tmp_path: Path, content: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_cluster(write(tmp_path, **content))


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(UserError, match=r"no cluster 'slrum'.*nearest: slurm .*local, slurm"):
        load_cluster("slrum")
    with pytest.raises(UserError, match="no such file"):
        load_cluster("nowhere/slurm.yaml")


def test_what_the_profile_leaves_open_may_stand_in_extra(tmp_path: Path) -> None:
    options = {"account": "b", "mail_type": "FAIL", "gres": "nvme:1", "mem-per-gpu": "40G"}
    cluster = load_cluster(write(tmp_path, **LEAST | {"memory_gb": 0, "extra": options}))
    assert isinstance(cluster, SlurmCluster)
    assert set(cluster.options) == {"account", "mail-type", "gres", "mem-per-gpu"}


def test_a_profile_that_begins_from_another_says_only_what_differs(tmp_path: Path) -> None:
    base = LEAST | {"data": {"imagenet": "/a", "voc12": "/v"}, "setup": ["module load cuda"]}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(base))
    middle = {"profile": "site", "partition": "long", "data": {"imagenet": "/b"}}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(middle))
    cluster = load_cluster(write(tmp_path, profile="long", minutes=60, setup=[]))
    assert isinstance(cluster, SlurmCluster)
    assert (cluster.partition, cluster.minutes, cluster.setup) == ("long", 60, ())
    assert cluster.data == {"imagenet": "/b", "voc12": "/v"}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump({"profile": "mine"}))
    with pytest.raises(UserError, match=r"site\.yaml: profile: 'mine' begins from this one"):
        load_cluster(str(tmp_path / "mine.yaml"))


def test_a_profile_in_the_repository_may_be_begun_from_anywhere(tmp_path: Path) -> None:
    cluster = load_cluster(write(tmp_path, profile="slurm", account="vision"))
    template = load_cluster("slurm")
    assert isinstance(cluster, SlurmCluster)
    assert isinstance(template, SlurmCluster)
    assert structs.replace(cluster, name="slurm", account="") == template


@pytest.mark.parametrize("name", ["preemptible", "apptainer", "no-accounting"])
def test_the_examples_begin_from_the_template(name: str) -> None:
    folder = experiments_dir() / "clusters" / "examples"
    cluster, template = load_cluster(str(folder / f"{name}.yaml")), load_cluster("slurm")
    assert isinstance(cluster, SlurmCluster)
    differ = [k for k in cluster.__struct_fields__ if getattr(cluster, k) != getattr(template, k)]
    assert len(differ) > 2


def test_a_profile_places_a_run_without_making_it_another(
    tmp_path: Path, smoke: MakeConfig
) -> None:
    config = smoke()
    profile = LEAST | {
        "data": {config.data.name: "/datasets/x"},
        "resources": {"data_workers": 3, "smoke": {"ranks": 2}, "paper": {"ranks": 16}},
    }
    placed = load_cluster(write(tmp_path, **profile)).placed(config)
    assert placed.paths.data == "/datasets/x"
    assert (placed.resources.data_workers, placed.resources.ranks) == (3, 2)
    assert run_id(placed) == run_id(config)
    assert config.resources.ranks == 1


@pytest.mark.parametrize("resources", [{"ranks": "many"}, {"device": "gpu"}, {"ranks": 5}])
def test_resources_that_do_not_suit_a_run_are_refused(
    tmp_path: Path, smoke: MakeConfig, resources: dict[str, object]
) -> None:
    cluster = load_cluster(write(tmp_path, **LEAST, resources=resources))
    with pytest.raises(UserError, match="resources of this profile"):
        cluster.placed(smoke({"train.batch_size": 32}))
