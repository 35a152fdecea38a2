"""cluster/Dockerfile: its structure, its pins, and the steps that need no Docker."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.cluster.dockerfile import copied, environment, lineage, parse, pip_installs
from tests.cluster.repository import ROOT, TORCH_VERSION, VERSION, pins

TEXT = (ROOT / "cluster/Dockerfile").read_text(encoding="utf-8")
STAGES = parse(TEXT)
TARGETS = ("cpu", "gpu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM python:3.11 AS a\nCOPPY x y\n", "unknown instruction 'COPPY'"),
        ("RUN true\nFROM python:3.11 AS a\n", "before the first FROM"),
        ("FROM python:3.11\n", "expected FROM base AS name"),
    ],
)
def test_the_parser_refuses_what_it_does_not_know(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_every_base_is_an_earlier_stage_or_a_pinned_image():
    seen = set()
    for stage in STAGES.values():
        if stage.base not in seen:
            image, _, tag = stage.base.partition(":")
            assert image == "python"
            assert re.fullmatch(r"\d+\.\d+\.\d+-slim-\w+", tag), stage.base
        seen.add(stage.name)


def test_every_copied_source_is_in_the_repository_and_in_the_build_context():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    for stage in STAGES.values():
        for source in copied(stage):
            assert (ROOT / source).exists(), source
            assert any(source == entry or source.startswith(f"{entry}/") for entry in allowed), (
                f"{source} is kept out by .dockerignore"
            )


def test_nothing_but_what_is_copied_is_in_the_build_context():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sources = {source for stage in STAGES.values() for source in copied(stage)}
    for entry in (line[1:] for line in lines if line.startswith("!")):
        assert any(source == entry or source.startswith(f"{entry}/") for source in sources), entry


def makefile_installs(flavour):
    """The pip calls of `make setup` for one flavour, without its tests and the project itself."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    calls = re.findall(r"\$\(PIP\) (.+)", text)
    found = []
    for call in calls:
        # $(if $(GPU),A,B)
        call = re.sub(
            r"\$\(if \$\(GPU\),([^,]*),([^)]*)\)",
            lambda match: match[1] if flavour == "gpu" else match[2],
            call,
        )
        call = re.sub(r"\$\(if \$\(TORCH_INDEX\),--index-url \$\(TORCH_INDEX\)\)", "", call)
        words = shlex.split(call.replace("$(FLAVOUR)", flavour))
        asked = [w for w in words if "==" in w or w.endswith(".txt")]
        if asked and asked != ["requirements/dev.txt"]:
            found.append(("--no-deps" not in words, asked))
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_installs_what_the_makefile_installs(target):
    def plain(calls):
        return [(dependencies, [w for w in asked if w != "-r"]) for dependencies, asked in calls]

    expected = [
        *makefile_installs(target),
        (False, ["cluster/requirements.txt"]),
        (False, ["/wheels/*.whl"]),
    ]
    assert len(expected) == 5
    assert plain(pip_installs(STAGES, target)) == expected


def test_pins_agree_with_the_project():
    for _, asked in [*pip_installs(STAGES, "cpu"), *pip_installs(STAGES, "gpu")]:
        for package in asked:
            if package.startswith("torch"):
                assert package == f"torch=={TORCH_VERSION}"
    common = pins(ROOT / "requirements/common.txt")
    [(_, [setuptools])] = [
        call for call in pip_installs(STAGES, "wheel") if call[1][0].startswith("setuptools")
    ]
    assert setuptools == f"setuptools=={common['setuptools']}"
    development = pins(ROOT / "requirements/dev.txt")
    for package, version in pins(ROOT / "cluster/requirements.txt").items():
        assert version == development[package], package
    # boto3 and botocore are released together
    assert pins(ROOT / "cluster/requirements.txt")["boto3"] == common["botocore"]
    assert f'org.opencontainers.image.version="{VERSION}"' in STAGES["system"].all("LABEL")[0]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_does_not_run_as_root(target):
    users = [user for stage in lineage(STAGES, target) for user in stage.all("USER")]
    assert users[-1] == "ray"
    assert STAGES[target].instructions[-1] == ("USER", "ray")
    assert any("--uid 1000" in line and " ray" in line for line in STAGES["system"].all("RUN"))


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_sends_no_telemetry_and_finds_its_programs_in_a_login_shell(target):
    variables = environment(STAGES, target)
    assert variables["RAY_USAGE_STATS_ENABLED"] == "0"
    assert variables["VLLM_NO_USAGE_STATS"] == "1"
    assert variables["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert variables["HF_HOME"].startswith("/home/ray/")
    assert variables["PATH"].startswith("/opt/venv/bin:")
    # /etc/profile sets PATH anew, then runs the files of profile.d
    assert any("/etc/profile.d/" in line for line in STAGES["system"].all("RUN"))


def test_no_secret_and_no_moving_tag_is_in_the_file():
    assert "latest" not in TEXT
    assert not re.search(r"(?i)(token|password|secret)\s*=", TEXT)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the stage `wheel`, from the files it copies, by the command it runs."""
    source = tmp_path_factory.mktemp("source")
    for name in copied(STAGES["wheel"]):
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source / name)
    [command] = [line for line in STAGES["wheel"].all("RUN") if line.startswith("pip wheel")]
    words = shlex.split(command)
    words[words.index("/wheels")] = str(source / "wheels")
    subprocess.run([sys.executable, "-m", *words], cwd=source, check=True, capture_output=True)
    [path] = (source / "wheels").glob("*.whl")
    return path


@pytest.mark.parametrize("stage", STAGES)
def test_every_command_of_a_build_is_one_for_the_shell(stage):
    for line in STAGES[stage].all("RUN"):
        command = re.sub(r"^(--mount=\S+\s+)+", "", line)
        done = subprocess.run(["sh", "-n", "-c", command], capture_output=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}"


def test_the_image_runs_its_jobs_without_the_repository(wheel, tmp_path):
    # As in the last stage: the wheel among the packages, jobs and cluster files under /opt/linkner.
    for stage in TARGETS:
        assert copied(STAGES[stage]) == ["cluster/start_night.py", "jobs"]
    packages, code = tmp_path / "packages", tmp_path / "linkner"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    shutil.copytree(ROOT / "jobs", code / "jobs")
    where = "import linkner_ray; print(linkner_ray.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    for words in (["-c", where], ["jobs/extract.py", "--help"], ["jobs/nightly.py", "--help"]):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=code,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "--config" in done.stdout or str(packages) in done.stdout
