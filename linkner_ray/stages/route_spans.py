"""Detection: which candidates are uncertain enough to be worth a question."""

from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import RoutingConfig
from linkner_ray.errors import ContractError
from linkner_ray.schemas import STAGE_COLUMNS


class RouteSpans:
    """`candidates -> routes`: the uncertain go to the LLM, the rest stay local.

    A predicted candidate goes to the LLM from the threshold up. A doubted one can only enter the
    output by a verdict of the LLM, so it is asked about whatever its uncertainty, or, with
    `route_doubted` off, not at all. Gold labels never reach a stage.
    """

    reads: ClassVar[tuple[str, ...]] = ("candidates",)
    adds: ClassVar[tuple[str, ...]] = ("routes",)

    def __init__(self, config: RoutingConfig, *, has_llm: bool = True) -> None:
        """Take the rules of one run.

        Args:
            config: Threshold and whether doubted spans are asked about.
            has_llm: Whether anybody is there to ask; without, every route is "local".
        """
        self.threshold = config.threshold
        self.route_doubted = config.route_doubted
        self.has_llm = has_llm

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add `routes`, one of "local" and "llm" per candidate, aligned with `candidates`.

        Raises:
            ContractError: If `candidates` is null for a document, or an uncertainty is null.
        """
        candidates = batch["candidates"].combine_chunks()
        if candidates.null_count:
            raise ContractError(f"RouteSpans: {candidates.null_count} documents have no candidates")
        routes = self._routes(candidates.flatten())
        # The offsets of a sliced table do not begin at zero.
        offsets = pc.subtract(candidates.offsets, candidates.offsets[0])
        column = pa.ListArray.from_arrays(offsets, routes, type=STAGE_COLUMNS["routes"])
        return batch.append_column("routes", column)

    def _routes(self, candidates: pa.StructArray) -> pa.Array:
        """Route of each candidate, for a flat array of them."""
        uncertainty = pc.struct_field(candidates, "uncertainty")
        if uncertainty.null_count:
            raise ContractError(f"RouteSpans: {uncertainty.null_count} uncertainties are null")
        if not self.has_llm:
            return pa.repeat(pa.scalar("local"), len(candidates))
        # The stored uncertainty is float32: compared as such, 0.1 is at the threshold 0.1.
        threshold = pa.scalar(self.threshold, pa.float32())
        doubted = pc.equal(pc.struct_field(candidates, "kind"), "doubted")
        asked = pc.if_else(doubted, self.route_doubted, pc.greater_equal(uncertainty, threshold))
        return pc.if_else(asked, "llm", "local")
