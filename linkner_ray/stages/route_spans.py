"""Detection: which candidates are uncertain enough for a question to the LLM."""

import hashlib
from collections import Counter
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linkner_ray.config import RoutingConfig
from linkner_ray.config.budget import share_of
from linkner_ray.errors import ContractError
from linkner_ray.linking.judged import Candidates
from linkner_ray.linking.link import Link
from linkner_ray.linking.same_name import Name, names_at
from linkner_ray.schemas import ROUTES, STAGE_COLUMNS, list_offsets, make_lists

_LOCAL, _LLM, _AUDIT, _OVER_BUDGET, _SAME_NAME = range(len(ROUTES))


class RouteSpans:
    """`doc_id, text, candidates -> routes`: uncertain candidates go to the LLM.

    A candidate, predicted or near miss, is asked about from the threshold up, unless config
    excludes its kind or its label. Of those that are the same words in one document, the
    `routing.per_name` most uncertain are asked about and the others are `same_name`. A budget goes
    to the most uncertain candidates of a unit first, to the earlier of two that are equal; where no
    question about a name is left, it is `over_budget`. Under a link, what a question is expected to
    gain takes the place of uncertainty, and `routing.min_gain` that of the threshold. A seeded
    share of the certain predicted candidates is audited; audits are taken from the budget first, so
    that a tight budget does not end the measurement. Routes depend on the unit's documents alone;
    gold labels never reach a stage.
    """

    reads: ClassVar[tuple[str, ...]] = ("doc_id", "text", "candidates")
    adds: ClassVar[tuple[str, ...]] = ("routes",)

    def __init__(
        self,
        config: RoutingConfig,
        *,
        has_llm: bool = True,
        max_asked: int | None = None,
        link: Link | None = None,
    ) -> None:
        """Take the rules of one unit.

        Args:
            config: What is asked about, and how much of it.
            has_llm: Whether there is an LLM to ask; without, every route is "local".
            max_asked: The unit's part of a budget in calls.
            link: Says what a question is worth; None to go by uncertainty.
        """
        self.config = config
        self.link = link
        self.has_llm = has_llm
        self.max_asked = max_asked

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add `routes`, one of `schemas.ROUTES` per candidate, aligned with `candidates`.

        Raises:
            ContractError: If `candidates` is null for a document, an uncertainty is null, or the
                budget is a number of calls and `max_asked` is None.
        """
        lists = batch["candidates"].combine_chunks()
        if lists.null_count:
            raise ContractError(f"RouteSpans: {lists.null_count} documents have no candidates")
        candidates = lists.flatten()
        routes = np.full(len(candidates), _LOCAL)
        if self.has_llm:
            routes = self._routes(batch, self._worth(lists))
        names = pa.array(ROUTES).take(pa.array(routes))
        column = make_lists(names, list_offsets(lists), STAGE_COLUMNS["routes"])
        return batch.append_column("routes", column)

    def _worth(self, lists: pa.ListArray) -> NDArray[np.floating]:
        """What decides whether each candidate is asked about, and before which others."""
        uncertainty = pc.struct_field(lists.flatten(), "uncertainty")
        if uncertainty.null_count:
            raise ContractError(f"RouteSpans: {uncertainty.null_count} uncertainties are null")
        if self.link is not None:
            return self.link.value(Candidates.of(lists, self.link.classes))
        return uncertainty.to_numpy()

    def _routes(self, batch: pa.Table, worth: NDArray[np.floating]) -> NDArray[np.int64]:
        """Index into ROUTES of each candidate of all documents."""
        lists = batch["candidates"].combine_chunks()
        candidates = lists.flatten()
        near_misses = _mask(pc.equal(pc.struct_field(candidates, "kind"), "near_miss"))
        never = pa.array(self.config.never_ask, pa.string())
        askable = ~_mask(pc.is_in(pc.struct_field(candidates, "label"), never))
        least = self.config.threshold if self.link is None else self.config.min_gain
        # The stored uncertainty is float32: compared as such, 0.1 is at the threshold 0.1.
        uncertain = worth >= worth.dtype.type(least)
        wanted = np.flatnonzero(
            uncertain & askable & (self.config.route_near_misses | ~near_misses)
        )
        max_asked = self._max_asked(len(candidates))
        doc_ids = batch["doc_id"].combine_chunks().take(pc.list_parent_indices(lists))
        audited = self._audited(
            candidates, doc_ids, np.flatnonzero(~uncertain & askable & ~near_misses)
        )[:max_asked]
        ranked = wanted[np.argsort(-worth[wanted], kind="stable")]
        routes = np.full(len(candidates), _LOCAL)
        routes[audited] = _AUDIT
        routes[ranked] = self._routes_of_ranked(batch, ranked, max_asked - len(audited))
        return routes

    def _routes_of_ranked(
        self, batch: pa.Table, ranked: NDArray[np.int64], num_questions: int
    ) -> NDArray[np.int64]:
        """Index into ROUTES of the candidates to ask about, those worth most first."""
        if self.config.per_name is None:
            return np.where(np.arange(len(ranked)) < num_questions, _LLM, _OVER_BUDGET)
        asked: Counter[Name] = Counter()
        routes = []
        names = names_at(batch, ranked)
        for name in names:
            if asked[name] == self.config.per_name:
                routes.append(_SAME_NAME)
            elif num_questions:
                num_questions -= 1
                asked[name] += 1
                routes.append(_LLM)
            else:
                routes.append(_SAME_NAME if asked[name] else _OVER_BUDGET)
        return np.array(routes, np.int64)

    def _audited(
        self, candidates: pa.StructArray, doc_ids: pa.Array, certain: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The certain candidates whose hash lies below the share, the lowest first."""
        if not self.config.audit_share:
            return certain[:0]
        chosen = candidates.take(pa.array(certain))
        places = zip(
            doc_ids.take(pa.array(certain)).to_pylist(),
            chosen.field("start").to_pylist(),
            chosen.field("end").to_pylist(),
            strict=True,
        )
        hashes = np.array(
            [_seeded_hash(self.config.seed, *place) for place in places], dtype=np.float64
        )
        order = np.argsort(hashes, kind="stable")
        return certain[order[hashes[order] < self.config.audit_share]]

    def _max_asked(self, num_candidates: int) -> int:
        """Most candidates of the unit that may be asked about."""
        if self.config.max_share is not None:
            return share_of(self.config.max_share, num_candidates)
        if self.config.max_calls is None:
            return num_candidates
        if self.max_asked is None:
            raise ContractError(
                "RouteSpans: the budget is in calls, and the unit has no part of it"
            )
        return self.max_asked


def _mask(column: pa.BooleanArray) -> NDArray[np.bool_]:
    return column.to_numpy(zero_copy_only=False).astype(bool)


def _seeded_hash(seed: int, doc_id: str, start: int, end: int) -> float:
    """A number in [0, 1) that follows from the seed and the span alone."""
    content = f"{seed}\0{doc_id}\0{start}\0{end}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=6).digest()) / 2**48
