"""Studies of all kinds, and the table of their causes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tests.fuzz.causes import CAUSES, WRONG
from tests.fuzz.draw import Lanes
from tests.fuzz.kinds import KINDS

__all__ = ["Tally", "studies", "table", "tally"]

EXAMPLES = 20


@dataclass
class Tally:
    """How many cases of each kind had which cause, and the first of those that are wrong."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, kind: str, name: str, lanes: Lanes, found: list[str]) -> None:
        """Take in a study."""
        self.counts.setdefault(kind, Counter()).update(found)
        for lane in np.flatnonzero(np.isin(found, WRONG))[:EXAMPLES]:
            what = f"{lanes.curve.name}, {lanes.y.shape[1]} points, loss {lanes.loss}"
            bounds = ", bounded" * lanes.bounded
            self.wrong.append(f"{name}, lane {lane}: {found[lane]} ({what}{bounds})")

    @property
    def cases(self) -> int:
        """Of all kinds."""
        return sum(count.total() for count in self.counts.values())


def studies(cases: int, seed: int, kinds: list[str]) -> Iterator[tuple[str, int, int]]:
    """Kind, number and lanes of each study; few lanes make few studies."""
    whole = sum(KINDS[kind][1] for kind in kinds)
    for kind in kinds:
        _, part, most = KINDS[kind]
        lanes = max(int(cases * part / whole), 1)
        count = min(most, max(1, lanes // 25))
        for number in range(count):
            yield kind, number, lanes // count + (number < lanes % count)


def tally(cases: int, seed: int, kinds: list[str] | None = None, report=None) -> Tally:
    """Run studies of about so many cases.

    Parameters
    ----------
    cases, seed : int
    kinds : list of str, optional
        Of `KINDS`; all if not given.
    report : callable, optional
        Is called with a line for each study.
    """
    kinds, out = kinds or list(KINDS), Tally()
    for kind, number, size in studies(cases, seed, kinds):
        name = f"{kind}/{number}"
        rng = np.random.default_rng([seed, list(KINDS).index(kind), number])
        before = len(out.wrong)
        lanes, found = KINDS[kind][0](rng, size)
        out.add(kind, name, lanes, found)
        if report:
            report(f"{name}: {lanes.curve.name}, {size} cases")
            for line in out.wrong[before:]:
                report("  " + line)
    return out


def table(found: Tally) -> str:
    """In markdown: causes by kinds."""
    kinds = list(found.counts)
    lines = ["| cause | " + " | ".join(kinds) + " |", "| --- |" + " ---: |" * len(kinds)]
    for cause in CAUSES:
        numbers = [f"{found.counts[kind][cause]:,}" for kind in kinds]
        lines.append(f"| {cause} | " + " | ".join(numbers) + " |")
    totals = [f"{found.counts[kind].total():,}" for kind in kinds]
    return "\n".join([*lines, "| all | " + " | ".join(totals) + " |"])
