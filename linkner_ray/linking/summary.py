"""A link in a few figures: what the record of a run keeps of it, and what reports say."""

from typing import TypedDict

from linkner_ray.linking.link import Link


class LinkSummary(TypedDict):
    """Figures of `Link`; all but `asks` in [0, 1]."""

    f1: float
    f1_all_asked: float
    """F1 on dev if every candidate is asked about."""

    gain: float
    gain_error: float
    asks: bool


def summary_of(link: Link) -> LinkSummary:
    """The figures of a link."""
    return {
        "f1": link.f1,
        "f1_all_asked": link.f1_at(1.0),
        "gain": link.gain,
        "gain_error": link.gain_error,
        "asks": link.asks,
    }


def describe_summary(path: str, summary: LinkSummary) -> str:
    """What a link decides, and what it rests on, in one line.

    Args:
        path: Of the link, without secrets.
        summary: Its figures.
    """
    gain = f"{100 * summary['gain']:+.2f} +- {100 * summary['gain_error']:.2f} points"
    said = (
        f"The link {path} says who is asked: F1 on dev is {100 * summary['f1']:.2f} by the local "
        f"model and {100 * summary['f1_all_asked']:.2f} with all answers; the answers gain {gain} "
        "over the same fit without them."
    )
    if summary["asks"]:
        return said
    return (
        f"{said} That is not told from chance, so the LLM is not started, and all labels are the "
        "local model's."
    )
