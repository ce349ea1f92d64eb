"""The fleet of a release: models that know no request, and so serve every audit of one recipe and data set.

Two kinds: *shadows*, each trained on a random half of all records, in pairs, so that every record is outside exactly
one model of each pair; and *originals*, trained on all of D, which methods edit and positive controls keep.
"""

from dataclasses import dataclass
from typing import Final

from cu_cert.fleet.plan import Half, Member, in_cohorts
from cu_cert.fleet.worker import Workshop
from cu_cert.rng import Stream
from cu_cert.secrets_store import Secrets

BLOCK: Final = 16
"""Originals are numbered in blocks that train together, so that a later, larger plan repeats none of an earlier one."""


@dataclass(frozen=True)
class Release:
    """The models of one recipe and data set that know no request.

    Args:
        seed: 64 hexadecimal digits, from which theirs derive.
        cohort: Most models that are trained in one program; 1 trains each alone.
    """

    seed: str
    cohort: int = 1

    @classmethod
    def of(cls, workshop: Workshop, secrets: Secrets, cohort: int) -> "Release":
        """Return the release of a project."""
        return cls(secrets.release_seed(workshop.recipe.digest, workshop.universe.digest).hex(), cohort)

    def shadows(self, count: int) -> tuple[Member, ...]:
        """Return the first ``count`` shadows, an even number; both halves of a pair are neighbours."""
        found: list[Member] = []
        for number in range(count):
            half = Half(self.seed, number // 2, number % 2)
            found.append(Member(label=f"shadow {number}", records=str(half), seed=self._seed("shadow", number)))
        return in_cohorts(found, self.cohort)

    def originals(self, start: int, count: int) -> tuple[Member, ...]:
        """Return ``count`` originals from number ``start`` on."""
        blocks = range(start // BLOCK, -(-(start + count) // BLOCK))
        found: list[Member] = []
        for block in blocks:
            numbers = range(BLOCK * block, BLOCK * (block + 1))
            part = [
                Member(label=f"original {number}", records="all", seed=self._seed("original", number))
                for number in numbers
            ]
            found += in_cohorts(part, min(self.cohort, BLOCK))
        first = start - BLOCK * blocks.start
        return tuple(found[first : first + count])

    def _seed(self, kind: str, number: int) -> str:
        return Stream(bytes.fromhex(self.seed)).child(kind, number).key.hex()
