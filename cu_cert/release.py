"""The fleet of a release: models that know no request, and so serve every audit of one recipe and data set.

Two kinds: *shadows*, each trained on a random half of all records, in pairs, so that every record is outside exactly
one model of each pair; and *originals*, trained on all of D, which methods edit and positive controls keep.

Originals are of two sorts for ever: *pilots*, on which scores are fitted, and *judged* ones, which scores judge. No
original is of both, so whatever audits follow, none is judged by a score that it fitted.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cu_cert.fleet.plan import Half, Member, in_cohorts
from cu_cert.fleet.worker import Workshop
from cu_cert.rng import Stream
from cu_cert.secrets_store import Secrets

BLOCK: Final = 16
"""Originals are numbered in blocks that train together, so that a later, larger plan repeats none of an earlier one."""


def pilot_number(index: int) -> int:
    """Return the number of the ``index``-th original that fits scores: pilots fill the even blocks."""
    return BLOCK * (2 * (index // BLOCK)) + index % BLOCK


def judged_number(index: int) -> int:
    """Return the number of the ``index``-th original that scores judge: these fill the odd blocks."""
    return BLOCK * (2 * (index // BLOCK) + 1) + index % BLOCK


def filled(count: int, cohort: int) -> int:
    """Return how many originals are trained where ``count`` of one sort are wanted: cohorts are repeated whole.

    Args:
        count: Originals that are wanted, from the first of their sort on.
        cohort: Most models that are trained in one program.
    """
    blocks, rest = divmod(count, BLOCK)
    size = max(min(cohort, BLOCK), 1)
    return BLOCK * blocks + min(BLOCK, size * -(-rest // size))


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

    @cached_property
    def name(self) -> str:
        """A commitment (hex) to the seed: the same in all certificates whose models come from this release."""
        return hashlib.sha256(b"cu-cert/release/v1\0" + bytes.fromhex(self.seed)).hexdigest()

    def shadows(self, count: int) -> tuple[Member, ...]:
        """Return the first ``count`` shadows, an even number; both halves of a pair are neighbours."""
        found: list[Member] = []
        for number in range(count):
            half = Half(self.seed, number // 2, number % 2)
            found.append(Member(label=f"shadow {number}", records=str(half), seed=self._seed("shadow", number)))
        return in_cohorts(found, self.cohort)

    def originals(self, start: int, count: int) -> tuple[Member, ...]:
        """Return ``count`` originals from number ``start`` on, whatever their sort."""
        return self.numbered(range(start, start + count))

    def pilots(self, count: int) -> tuple[Member, ...]:
        """Return the first ``count`` originals that fit scores."""
        return self.numbered(pilot_number(index) for index in range(count))

    def judged(self, indices: Iterable[int]) -> tuple[Member, ...]:
        """Return originals that scores judge.

        Args:
            indices: Their places among the judged ones, from 0.
        """
        return self.numbered(judged_number(index) for index in indices)

    def numbered(self, numbers: Iterable[int]) -> tuple[Member, ...]:
        """Return originals by number; each is seated in its block, whichever others are asked for."""
        blocks: dict[int, tuple[Member, ...]] = {}
        found = []
        for number in numbers:
            block, place = divmod(number, BLOCK)
            if block not in blocks:
                blocks[block] = self._block(block)
            found.append(blocks[block][place])
        return tuple(found)

    def _block(self, block: int) -> tuple[Member, ...]:
        members = [
            Member(label=f"original {number} of the release", records="all", seed=self._seed("original", number))
            for number in range(BLOCK * block, BLOCK * (block + 1))
        ]
        return in_cohorts(members, min(self.cohort, BLOCK))

    def _seed(self, kind: str, number: int) -> str:
        return Stream(bytes.fromhex(self.seed)).child(kind, number).key.hex()


@dataclass(frozen=True)
class Lent:
    """The originals of a release that serve one plan.

    Args:
        release: The release.
        judged: Places of its judged originals among them, in the order in which they are taken: the artifact
            question's positive control first where that question is asked, then the slots whose coins say "unlearned".
        artifact: Whether the artifact question is asked.
    """

    release: Release
    judged: tuple[int, ...]
    artifact: bool

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The judged originals, in the order in which they are taken."""
        return self.release.judged(self.judged)

    @property
    def control(self) -> Member:
        """The original of the artifact question."""
        return self.members[0]

    @property
    def slots(self) -> tuple[Member, ...]:
        """The originals of the slots; the h-th slot whose coin says "unlearned" takes the h-th."""
        return self.members[int(self.artifact) :]
