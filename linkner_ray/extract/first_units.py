"""How much a run asks, told early: from its first units, where nothing bounds its questions."""

from collections.abc import Callable

from linkner_ray.errors import counted
from linkner_ray.extract.plan import Plan
from linkner_ray.runs.bill import price_of
from linkner_ray.runs.counters import NO_COSTS, add_counts
from linkner_ray.runs.folder import UnitResult

FIRST_DOCUMENTS = 50
"""Documents from which the others are foreseen; all of the units that hold them count."""


class FirstUnits:
    """Says once how many questions the first units asked; says nothing under a budget or link."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        routing = plan.config.routing
        self._is_due = plan.has_llm and routing.budget is None and routing.link is None
        self._llm, self._say = plan.config.llm, say
        self._documents = 0
        self._costs = dict(NO_COSTS)

    def add(self, unit_result: UnitResult) -> None:
        """Take note of a unit that this run did."""
        if not self._is_due:
            return
        self._documents += unit_result.counts["documents_read"]
        add_counts(self._costs, unit_result.costs)
        if self._documents >= FIRST_DOCUMENTS:
            self._is_due = False
            if self._costs["questions_asked"]:
                self._say(self._sentence())

    def _sentence(self) -> str:
        questions, tokens = self._costs["questions_asked"], self._costs["prompt_tokens_asked"]
        share = 1000 / self._documents
        price = price_of(self._llm, prompt_tokens=share * tokens, gpu_hours=0.0)
        priced = "" if self._llm.price_per_million_tokens is None else f", a price of {price:,.2f}"
        return (
            f"routing.budget is not set, and the first {counted(self._documents, 'document')} "
            f"asked {counted(questions, 'question')}: {questions / self._documents:.1f} each. For "
            f"1,000 documents that is {share * questions:,.0f} questions and "
            f"{share * tokens:,.0f} prompt tokens{priced}. `linkner estimate` tells more; "
            "routing.budget or routing.link bounds it"
        )
