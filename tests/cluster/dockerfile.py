"""A parser for the part of the Dockerfile language that cluster/Dockerfile uses."""

import re
import shlex
from dataclasses import dataclass, field

KNOWN = frozenset({"ARG", "COPY", "ENV", "FROM", "LABEL", "RUN", "USER", "WORKDIR"})


@dataclass
class Stage:
    """One stage of a build.

    Attributes:
        base: Image or earlier stage.
        instructions: Keyword and rest of the line, continuations joined.
    """

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        return [rest for found, rest in self.instructions if found == keyword]


def parse(text: str) -> dict[str, Stage]:
    """Stages of a Dockerfile by name, in order.

    Raises:
        ValueError: For an instruction that is not known, one before the first FROM, or a stage
            without a name.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages: list[Stage] = []
    for line in filter(str.strip, joined.splitlines()):
        keyword, _, rest = line.partition(" ")
        if keyword not in KNOWN:
            raise ValueError(f"unknown instruction '{keyword}' in: {line}")
        if keyword == "FROM":
            match = re.fullmatch(r"(\S+) AS (\S+)", rest)
            if match is None:
                raise ValueError(f"expected FROM base AS name, found: {line}")
            stages.append(Stage(name=match[2], base=match[1]))
        elif not stages:
            raise ValueError(f"instruction before the first FROM: {line}")
        else:
            stages[-1].instructions.append((keyword, rest.strip()))
    return {stage.name: stage for stage in stages}


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """A stage and those it is built on, the first one first."""
    chain: list[Stage] = []
    while name in stages:
        chain.insert(0, stages[name])
        name = stages[name].base
    return chain


def environment(stages: dict[str, Stage], name: str) -> dict[str, str]:
    """Variables set in a stage and those below it."""
    pairs = [
        word.split("=", 1)
        for stage in lineage(stages, name)
        for line in stage.all("ENV")
        for word in shlex.split(line)
    ]
    return dict(pairs)


def copied(stage: Stage) -> list[str]:
    """Sources that a stage copies from the build context."""
    return [source for line in stage.all("COPY") for source in shlex.split(line)[:-1]]


def pip_installs(stages: dict[str, Stage], name: str) -> list[tuple[bool, list[str]]]:
    """What `pip install` is given in a stage and those below it.

    Returns:
        For each call: whether it installs dependencies too, and what it is asked to install.
    """
    found = []
    for stage in lineage(stages, name):
        for line in stage.all("RUN"):
            _, separator, call = line.partition("pip install ")
            if separator:
                words = shlex.split(call)
                asked = [
                    word
                    for before, word in zip(["", *words], words, strict=False)
                    if not word.startswith("-") and before != "--index-url"
                ]
                found.append(("--no-deps" not in words, asked))
    return found
