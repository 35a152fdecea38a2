"""How far the entities of two nights differ as a whole: label mix, uncertainty, routed share.

A night is compared by histograms, so that other pages than last night's do not count as such. The
measure is the population stability index, PSI = sum over bins of (p - q) ln(p / q), with p and q
the shares of a bin tonight and before. It is the sum of both Kullback-Leibler divergences, so at
least 0, and has no upper bound. From every bin of both nights 1/2 is counted more than there is, or
a bin that one night has not would make it infinite.

Letters: G groups of documents (all, hosts, languages), B bins.

Reference:
    Siddiqi (2006): Credit Risk Scorecards. Wiley. Names 0.1 and 0.25 as bounds.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linkner_ray.config import DriftConfig
from linkner_ray.errors import hide_secrets
from linkner_ray.runs.counters import UNCERTAINTY_BINS
from linkner_ray.runs.finished import FinishedRun, read_part
from linkner_ray.runs.part_work import BUCKET, HERE, Spread, pieces_of
from linkner_ray.runs.row_index import name_words
from linkner_ray.storage import Folder

SMOOTHING = 0.5

MEASURES = ("labels", "uncertainty", "routed")

OVERALL = ("overall", "")

Group = tuple[str, str]
"""Kind (overall, host, language) and name."""

Counts = NDArray[np.int64]

_GROUPS = pa.schema([("kind", pa.string()), ("name", pa.string()), ("count", pa.int64())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How far one histogram of one group differs between two nights."""

    kind: str
    """overall, host or language."""

    name: str
    measure: str
    """One of `MEASURES`."""

    psi: float | None
    """None if there is nothing to compare: one night has none of it."""

    count_before: int
    """Entities for labels, candidates for the others."""

    count_after: int
    verdict: str
    """stable, warn, alert; or few, where the counts are too small for a verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """How far two nights differ."""

    before: str
    after: str
    drifts: tuple[Drift, ...]
    gate: str
    """`DriftConfig.gate`."""

    @property
    def alerts(self) -> list[Drift]:
        """What keeps the later night from being published."""
        return [
            drift
            for drift in self.drifts
            if drift.verdict == "alert" and (self.gate == "any" or drift.kind == "overall")
        ]

    @property
    def verdict(self) -> str:
        """alert, warn, or the best that can be said: stable, or few where nothing has a verdict."""
        found = {drift.verdict for drift in self.drifts}
        if self.alerts:
            return "alert"
        if found & {"warn", "alert"}:
            return "warn"
        return "stable" if "stable" in found else "few"

    def as_json(self) -> dict[str, Any]:
        """All of it, with stable keys."""
        return {**asdict(self), "verdict": self.verdict}


def stability_index(before: Counts, after: Counts) -> float | None:
    """Population stability index of histograms, shape (B,); None where one of them is empty."""
    if not before.sum() or not after.sum():
        return None
    shares = []
    for counts in (before, after):
        smoothed = counts + SMOOTHING
        shares.append(smoothed / smoothed.sum())
    q, p = shares
    return float(((p - q) * np.log(p / q)).sum())


def measure_drift(
    before: str, after: str, config: DriftConfig, *, spread: Spread = HERE
) -> DriftReport:
    """Compare two finished nights that kept their candidates.

    The later one says what hosts and languages are looked at.

    Raises:
        ConfigError: If one is no finished run.
        DataError: If a file is missing or damaged.
    """
    runs = FinishedRun.open(before), FinishedRun.open(after)
    groups = [OVERALL, *_largest_groups(runs[1], config, spread)]
    labels = tuple(dict.fromkeys([*runs[1].classes, *runs[0].classes]))
    first, second = (_histograms(run, groups, labels, spread) for run in runs)
    drifts = [
        _judge(group, measure, first[measure][place], second[measure][place], config)
        for place, group in enumerate(groups)
        for measure in MEASURES
    ]
    return DriftReport(
        before=hide_secrets(before),
        after=hide_secrets(after),
        drifts=tuple(drifts),
        gate=config.gate,
    )


def host_of(url: str | None) -> str:
    """Host of an address, in lower case; empty if it has none."""
    try:
        return urlsplit(url or "").hostname or ""
    except ValueError:  # such as an unclosed [ of an IPv6 host
        return ""


def _judge(group: Group, measure: str, before: Counts, after: Counts, config: DriftConfig) -> Drift:
    psi = stability_index(before, after)
    counts = int(before.sum()), int(after.sum())
    if psi is None or min(counts) < config.min_count:
        verdict = "few"
    else:
        verdict = "alert" if psi >= config.alert else "warn" if psi >= config.warn else "stable"
    return Drift(
        kind=group[0],
        name=group[1],
        measure=measure,
        psi=psi,
        count_before=counts[0],
        count_after=counts[1],
        verdict=verdict,
    )


def _largest_groups(run: FinishedRun, config: DriftConfig, spread: Spread) -> list[Group]:
    """Hosts and languages with most documents, those that are not said left out.

    A crawl has millions of hosts, so no process counts all of them.
    """
    pieces = pieces_of(run.parts)
    limits = {"host": config.hosts, "language": config.languages}
    count = partial(_count_groups, run.url, len(pieces))
    buckets = [*spread.by_bucket(count, partial(_most, limits), pieces)]
    most = _most(limits, pa.concat_tables([_GROUPS.empty_table(), *buckets]))
    return [*zip(most["kind"].to_pylist(), most["name"].to_pylist(), strict=True)]


def _count_groups(url: str, num_buckets: int, parts: Sequence[str]) -> pa.Table:
    """Documents of some part files by host and by language; a group's bucket follows its name."""
    folder = Folder.at(url)
    counts: Counter[Group] = Counter()
    for part in parts:
        table = read_part(folder, f"entities/{part}", ["url", "lang"])
        counts.update(("host", host_of(url)) for url in table["url"].to_pylist())
        counts.update(("language", lang or "") for lang in table["lang"].to_pylist())
    named = [(kind, name, count) for (kind, name), count in counts.items() if name]
    rows = [dict(zip(_GROUPS.names, row, strict=True)) for row in named]
    groups = pa.Table.from_pylist(rows, schema=_GROUPS)
    return groups.append_column(BUCKET, [name_words(groups["name"]) % np.uint64(num_buckets)])


def _most(limits: Mapping[str, int], groups: pa.Table) -> pa.Table:
    """The groups of each kind that are counted most; of equal ones the first by name."""
    totals = groups.group_by(["kind", "name"]).aggregate([("count", "sum")])
    totals = totals.select(["kind", "name", "count_sum"]).rename_columns(_GROUPS.names)
    ordered = totals.sort_by([("count", "descending"), ("name", "ascending")])
    return pa.concat_tables(
        ordered.filter(pc.equal(ordered["kind"], kind)).slice(0, limit)
        for kind, limit in limits.items()
    )


def _histograms(
    run: FinishedRun, groups: Sequence[Group], labels: Sequence[str], spread: Spread
) -> dict[str, Counts]:
    """Counts of a run by measure. Shape (G, B) each."""
    total = _no_counts(groups, labels)
    for found in spread.each(partial(_count, run.url, groups, labels), pieces_of(run.parts)):
        for measure, counts in found.items():
            total[measure] += counts
    return total


def _no_counts(groups: Sequence[Group], labels: Sequence[str]) -> dict[str, Counts]:
    return {
        measure: np.zeros((len(groups), bins), np.int64)
        for measure, bins in zip(MEASURES, (len(labels), UNCERTAINTY_BINS, 2), strict=True)
    }


def _count(
    url: str, groups: Sequence[Group], labels: Sequence[str], parts: Sequence[str]
) -> dict[str, Counts]:
    """Counts of some part files by measure. Shape (G, B) each."""
    folder = Folder.at(url)
    places = {group: place for place, group in enumerate(groups)}
    found = _no_counts(groups, labels)
    for part in parts:
        rows = read_part(folder, f"entities/{part}", ["url", "lang", "entities"])
        beside = read_part(folder, f"candidates/{part}", ["candidates", "routes"])
        belongs = [
            np.array([places.get(group, -1) for group in column], np.int64)
            for column in (
                [OVERALL] * rows.num_rows,
                [("host", host_of(url)) for url in rows["url"].to_pylist()],
                [("language", lang) for lang in rows["lang"].to_pylist()],
            )
        ]
        for measure, lists, bins in (
            ("labels", rows["entities"], _label_bins(rows["entities"], labels)),
            ("uncertainty", beside["candidates"], _uncertainty_bins(beside["candidates"])),
            ("routed", beside["routes"], _routed_bins(beside["routes"])),
        ):
            row_of = pc.list_parent_indices(lists.combine_chunks()).to_numpy()
            for group_of in belongs:
                _add(found[measure], group_of[row_of], bins)
    return found


def _add(histogram: Counts, groups: Counts, bins: Counts) -> None:
    """Add observations to a histogram; those of group -1 belong to none."""
    is_in = groups >= 0
    width = histogram.shape[1]
    flat = np.bincount(groups[is_in] * width + bins[is_in], minlength=histogram.size)
    histogram += flat.reshape(histogram.shape)


def _label_bins(entities: pa.ChunkedArray, labels: Sequence[str]) -> Counts:
    found = pc.struct_field(pc.list_flatten(entities), "label")
    places = pc.index_in(found, pa.array(labels, pa.string()))
    return places.to_numpy().astype(np.int64)


def _uncertainty_bins(candidates: pa.ChunkedArray) -> Counts:
    uncertainty = pc.struct_field(pc.list_flatten(candidates), "uncertainty").to_numpy()
    places = (uncertainty.astype(np.float64) * UNCERTAINTY_BINS).astype(np.int64)
    return np.minimum(places, UNCERTAINTY_BINS - 1)


def _routed_bins(routes: pa.ChunkedArray) -> Counts:
    return pc.equal(pc.list_flatten(routes), "llm").to_numpy().astype(np.int64)
