"""Scores that were handed in, as rows of evidence."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cu_attacks._model_scores import ModelScore, fit_score
from cu_attacks._scores import Scores
from cu_attacks._types import FloatArray
from cu_cert.claims import Claim
from cu_cert.distances import DISTANCES, energy_evidence
from cu_cert.errors import DataError
from cu_cert.workorder import Task
from cu_certificates.check.design import FITTED
from cu_certificates.check.strict import canonical
from cu_certificates.plan import Plan


class Evidence:
    """Scores as rows of evidence.

    Args:
        plan: The plan.
        seed: The audit seed.
        table: The scores.
        tasks: The planned models.
        path: The scores file, for messages.
    """

    def __init__(self, plan: Plan, seed: bytes, table: Scores, tasks: Sequence[Task], path: Path) -> None:
        self.plan, self.seed, self.table, self.tasks, self.path = plan, seed, table, tasks, path
        self.row = {name: row for row, name in enumerate(table.models)}
        known = {task.model: task for task in tasks}
        for name, pool in zip(table.models, table.pools, strict=True):
            if name not in known:
                if plan.designs["procedure"] == "pools":
                    continue  # a pilot more than the score needs
                raise DataError(f"{path}: model {name!r} is not in the work order (models.csv); leave it out")
            if pool != known[name].pool:
                raise DataError(
                    f"{path}: model {name!r} stands in the pool {pool}; the work order says {known[name].pool}"
                )

    def memory(self, tasks: Sequence[Task]) -> FloatArray:
        """Return the signals of models that must all be there, shape (models, request)."""
        for task in tasks:
            if not self.usable(task):
                raise DataError(
                    f"{self.path}: model {task.model!r} ({task.pool}) is missing or has values that are not finite; "
                    "the score is fitted on it, so it must be there"
                )
        return np.stack([self.table.memory(self.row[task.model]) for task in tasks])

    def usable(self, task: Task) -> bool:
        """Whether a planned model was handed in and came out."""
        return task.model in self.row and self.table.usable(self.row[task.model])

    def of(self, *groups: str) -> list[Task]:
        """Return the tasks of some groups, in their order."""
        return [task for task in self.tasks if task.group in groups]

    def fit(self) -> ModelScore:
        """Fit the score on models that are not counted: pilots, else the calibration halves."""
        if self.plan.score in FITTED:
            pilots, size = self.of("pilots"), self.plan.sizes.pilots
            original = [task for task in pilots if task.role == "original"]
            retrained = [task for task in pilots if task.role == "retrained"]
            return fit_score(
                self.plan.score, self.memory(original), self.memory(retrained[:size]), self.memory(retrained[size:])
            )
        # Originals show what remembering looks like even where a good method leaves nothing to learn from.
        unlearned = [task for task in self.of("calibration original") if self.usable(task)]
        if len(unlearned) < 2:
            unlearned = [task for task in self.of("calibration unlearned") if self.usable(task)]
        retrained = [task for task in self.of("calibration retrained") if self.usable(task)]
        half = len(retrained) // 2
        if len(unlearned) < 2 or half < 2:
            raise DataError(
                f"{self.path}: {len(unlearned)} original or unlearned and {len(retrained)} retrained models in the "
                "calibration halves; a score needs 2 and 4. Hand in at least 4 and 8 models, or pilots"
            )
        return fit_score(
            "combined", self.memory(unlearned), self.memory(retrained[:half]), self.memory(retrained[half:])
        )

    def compare(self, files: dict[tuple[str, str, str, str], bytes]) -> list[Claim]:
        """Compare the judged models as two sets, and add their distances to the evidence; nothing where one failed.

        Args:
            files: Content of each evidence file by (id, kind, name, access).
        """
        judged = self.of("main") or [*self.of("main unlearned"), *self.of("main retrained")]
        judged.sort(key=lambda task: (task.group == "main retrained", task.slot))
        if not judged or not all(map(self.usable, judged)):
            return []
        found = energy_evidence(
            self.memory(judged),
            [self.table.digests[self.row[task.model]] for task in judged],
            [task.role == "unlearned" for task in judged],
            plan=self.plan,
            seed=self.seed,
        )
        if found is None:
            return []
        files[DISTANCES] = found[1]
        return [found[0]]

    def line(self, score: ModelScore, task: Task) -> dict[str, object]:
        """Return one row of evidence; a model that is missing or not finite counts as failed."""
        found: dict[str, object] = {
            "kind": "run",
            "group": task.group.removeprefix("reference-"),
            "slot": task.slot,
            "role": task.role,
        }
        if not self.usable(task):
            return found | {"status": "failed"}
        return found | {"status": "done"} | self.numbers(score, task)

    def numbers(self, score: ModelScore, task: Task) -> dict[str, object]:
        """Return a model's digest, signals and score."""
        row = self.row[task.model]
        return {
            "model": self.table.digests[row],
            "signals": self.table.signals_digest(row),
            "score": score(self.table.memory(row)[None])[0],
        }

    def file(self, lines: Sequence[Mapping[str, object]]) -> bytes:
        """Return an evidence file: the opening, then one line a row."""
        opening = {"kind": "opening", "seed": self.seed.hex(), "nonce": ""}
        return b"".join(canonical(line) + b"\n" for line in (opening, *lines))
