"""What configs and commands no longer take, and what there is instead."""

from collections.abc import Mapping, Sequence

REMOVED: Mapping[str, str] = {
    "plan --cluster": "docs/sizing.md says how many encoders and engines a run needs",
    "plan --documents-per-s": "docs/sizing.md says how many encoders and engines a run needs",
}
"""By `key`, `key=value` or `command --option`."""


def removed_option(words: Sequence[str]) -> str | None:
    """What to say of the first option in a command line that was removed; None if there is none."""
    for word in words[1:]:
        option = word.partition("=")[0]
        instead = REMOVED.get(f"{words[0]} {option}")
        if instead is not None:
            return f"linkner {words[0]}: option {option} was removed; {instead}"
    return None
