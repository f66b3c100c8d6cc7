"""The files an operator copies are read by what reads them in earnest, as far as that is here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from skewscope.catalogue import load
from skewscope.commands import _parser, _settings
from skewscope.commands.agent import settings

DEPLOY = Path(__file__).parents[2] / "agents" / "deploy"


def flags_of(words):
    parser = _parser.build()
    _settings.apply(parser, _parser.commands(parser), words, {})
    return parser.parse_args(words)


def test_the_example_settings_are_settings():
    args = flags_of(["agent", "--config", str(DEPLOY / "agent.toml")])
    assert settings(args).archive == Path("/var/lib/skewscope/archive")


def test_every_commented_setting_is_one_too(tmp_path: Path):
    text = re.sub(r"^# (?=[a-z-]+ = )", "", (DEPLOY / "agent.toml").read_text(), flags=re.MULTILINE)
    text = text.replace('listen = "127.0.0.1:9709"\n', "", 1)
    (tmp_path / "agent.toml").write_text(text)
    args = flags_of(["agent", "--config", str(tmp_path / "agent.toml")])
    made = settings(args)
    assert made.every == {"nvml-health": 60.0, "nfs": 60.0} and made.options["gpus.expected"] == "8"
    assert set(made.collectors) == {"all", "-nfs"} and set(made.every) <= set(load("agents.crew").collectors())


def test_the_unit_names_only_flags_that_exist_and_systemd_reads_it():
    unit = (DEPLOY / "skewscope-agent.service").read_text()
    words = re.search(r"^ExecStart=\S+ (.*)$", unit, re.MULTILINE)[1].split()
    assert flags_of([word.replace("/etc/skewscope", str(DEPLOY)) for word in words]).command == "agent"
    if shutil.which("systemd-analyze"):
        said = subprocess.run(
            ["systemd-analyze", "verify", str(DEPLOY / "skewscope-agent.service")], capture_output=True, text=True
        ).stderr
        assert not [line for line in said.splitlines() if "skewscope" in line and "not executable" not in line]


def test_the_daemonset_is_one_and_holds_the_least_rights():
    found = yaml.safe_load((DEPLOY / "daemonset.yaml").read_text())
    pod = found["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert flags_of(container["args"]).listen == ":9709"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["runAsNonRoot"] and not pod.get("hostPID") and not pod.get("hostNetwork")
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    archive = Path(flags_of(container["args"]).archive)
    assert str(archive.parent) in {mount["mountPath"] for mount in container["volumeMounts"]}, "a folder of its own"


@pytest.fixture
def first(tmp_path: Path):
    """Return what the first container of the DaemonSet runs, on a spool below `tmp_path`, and its rights."""
    pod = yaml.safe_load((DEPLOY / "daemonset.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = pod["initContainers"]
    (mount,) = container["volumeMounts"]
    assert mount["name"] == "spool" and mount["mountPath"] in container["command"][-1]
    (tmp_path / "spool").mkdir(0o755)
    command = [word.replace(mount["mountPath"], str(tmp_path / "spool")) for word in container["command"]]
    return command, container["securityContext"], pod["securityContext"]["runAsGroup"]


def test_the_daemonset_opens_the_spool_without_any_capability(first, tmp_path: Path):
    command, rights, agents_group = first
    assert rights["capabilities"] == {"drop": ["ALL"]} and not rights["allowPrivilegeEscalation"]
    assert rights["runAsUser"] == 0 and rights["runAsGroup"] == agents_group
    group = str(agents_group)
    if os.geteuid() == 0 and shutil.which("setpriv"):  # as Kubernetes would run it
        none = ["--clear-groups", "--inh-caps", "-all", "--bounding-set", "-all", "--no-new-privs"]
        command = ["setpriv", "--reuid", "0", "--regid", group, *none, *command]
    else:
        command = [word.replace(group, str(os.getegid())) for word in command]
        agents_group = os.getegid()
    spool = tmp_path / "spool"
    for _ in range(2):
        subprocess.run(command, check=True)
        for folder in (spool, spool / "flight", spool / "inspector"):
            assert folder.stat().st_mode & 0o7777 == 0o3777 and folder.stat().st_gid == agents_group


def test_a_link_in_the_place_of_a_folder_is_left_alone(first, tmp_path: Path):
    command = [word.replace(str(first[2]), str(os.getegid())) for word in first[0]]
    (tmp_path / "victim").mkdir(0o700)
    (tmp_path / "spool/flight").symlink_to(tmp_path / "victim")
    (tmp_path / "spool/inspector").symlink_to(tmp_path / "nowhere")
    subprocess.run(command, check=True)
    assert (tmp_path / "victim").stat().st_mode & 0o7777 == 0o700 and not (tmp_path / "nowhere").exists()


def test_the_unit_opens_the_spool_last():
    unit = (DEPLOY / "skewscope-agent.service").read_text()
    words = re.search(r"^ExecStartPre=\+\S+ (.*)$", unit, re.MULTILINE)[1].split()
    assert words[:2] == ["-d", "-m"] and words[2] == "3777" and words[-1] == "/run/skewscope/spool"


@pytest.mark.parametrize("name", ["prolog.sh", "epilog.sh"])
def test_the_scripts_are_whole(name: str):
    assert subprocess.run(["bash", "-n", str(DEPLOY / name)]).returncode == 0


def test_the_prolog_makes_a_spool_and_the_epilog_clears_one_job_only(tmp_path: Path):
    spool = tmp_path / "run" / "spool"
    environ = {"SKEWSCOPE_SPOOL": str(spool), "SLURM_JOB_ID": "42", "PATH": "/usr/bin:/bin"}
    subprocess.run([DEPLOY / "prolog.sh"], env=environ, check=True)
    assert spool.stat().st_mode & 0o7777 == (spool / "flight").stat().st_mode & 0o7777 == 0o3777
    subprocess.run([DEPLOY / "prolog.sh"], env=environ, check=True)
    assert [path.name for path in spool.parent.iterdir()] == ["spool"], "nothing is left of making it"
    for name in ("42-r0-9.ring", "42-r1-9.ring", "421-r0-9.ring", "43-r0-9.ring"):
        (spool / name).touch()
    subprocess.run([DEPLOY / "epilog.sh"], env=environ, check=True)
    assert sorted(path.name for path in spool.glob("*.ring")) == ["421-r0-9.ring", "43-r0-9.ring"]


def test_prometheus_scrapes_the_two_halves():
    found = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert [job["metrics_path"] for job in found] == ["/metrics/fast", "/metrics/slow"]


def test_a_list_of_addresses_is_one_option():
    words = ["agent", "--option", "serving.urls=http://a:1/metrics,http://b:2/m?x=1,ras.address=c:3"]
    assert flags_of(words).option == {"serving.urls": "http://a:1/metrics,http://b:2/m?x=1", "ras.address": "c:3"}
