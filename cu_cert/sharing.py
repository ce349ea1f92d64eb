"""Models that several certificates share: which of this certificate's do, with whom, and how that is said.

What is said lies in an evidence file of its own, one line of JSON for the release, for each other plan, and for each
model that comes from the release's fleet or fits the score of another plan; see ``cu_certificates.check.sharing``. A
certificate names what was entered in the ledger when it was written; later plans name it in their turn.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from cu_cert.fleet.plan import Member
from cu_cert.fleet.store import Store
from cu_cert.fleet.worker import Workshop
from cu_cert.issue import Findings, Scope
from cu_cert.pools import Pools
from cu_cert.release import Release
from cu_cert.secrets_store import Secrets
from cu_cert.uses import Ledger, Use, originals_needed
from cu_certificates.check.sharing import ASSUMED, EVIDENCE, LATEST, LIMITED
from cu_certificates.check.strict import canonical
from cu_certificates.log import Log

FILE: Final = (EVIDENCE, EVIDENCE, "evidence/shared.jsonl", "controlled")

_MODEL: Final = re.compile(rb'"model":"([0-9a-f]{64})"')


@dataclass(frozen=True)
class Borrowing:
    """What a plan may borrow from the fleet of a release, and from whom it would have to keep apart.

    Args:
        release: The release.
        wanted: The plan's use, without originals.
        needed: How many judged originals it takes.
        ledger: Where it is entered.
    """

    release: Release
    wanted: Use
    needed: int
    ledger: Ledger

    @classmethod
    def of(
        cls, pools: Pools, workshop: Workshop, secrets: Secrets, ids: Sequence[str], *, share: bool, shadows: int
    ) -> "Borrowing":
        """Return what the plan of ``pools`` may borrow.

        Args:
            pools: The models of the plan, all originals its own.
            workshop: What they are made with.
            secrets: The project's memory.
            ids: The request.
            share: Whether originals come from the release's fleet; where not, the plan makes its own.
            shadows: How many shadows of the release serve the plan.
        """
        plan, release = pools.plan, Release.of(workshop, secrets, pools.cohort)
        wanted = Use(
            plan=plan.digest,
            release=release.name,
            own=not share,
            fitted=hashlib.sha256(b"cu-cert/pilots/v1\0" + pools.pilot_seeds.seed).hexdigest(),
            pilots=plan.sizes.pilots,
            artifact="artifact" in plan.questions,
            shadows=shadows,
            tokens=secrets.use_tokens(ids) if plan.request_least is None else None,
        )
        return cls(release, wanted, originals_needed(plan, pools.coins), Ledger(secrets))

    def preview(self, pools: Pools) -> Pools:
        """Return the pools with what would be lent now; enters nothing."""
        return replace(pools, lent=self.ledger.preview(self.wanted, self.needed).lent(self.release))

    def enter(self, pools: Pools, workshop: Workshop) -> tuple[Pools, Use]:
        """Return the pools with what is lent, and enter it before anything is trained."""
        use = self.ledger.enter(self.wanted, self.needed, partial(_older, self.release, workshop))
        return replace(pools, lent=use.lent(self.release)), use


def _older(release: Release, workshop: Workshop, use: Use) -> bool:
    """Whether some original of the release that a plan is lent was made before the plan was entered."""
    if use.own:
        return False
    store = Store(workshop.store)
    members = (*release.pilots(use.pilots), *release.judged(use.judged))
    return any(store.entry(workshop.identity.key(member)) is not None for member in members)


@dataclass(frozen=True)
class SharedModel:
    """One model that other plans may use as well.

    Args:
        role: ``original``, ``retrained`` or ``shadow``.
        model: Digest of its tensors.
        seed: 64 hexadecimal digits from which its randomness derives; a replay needs them.
        plans: Digests of the other plans that use it, oldest first.
    """

    role: str
    model: str
    seed: str
    plans: tuple[str, ...]


@dataclass(frozen=True)
class Sharing:
    """The models that one plan shares, or may come to share, with others.

    Args:
        release: Name of the release.
        older: Whether some were made before the plan was entered.
        models: The models.
    """

    release: str
    older: bool
    models: tuple[SharedModel, ...]

    @classmethod
    def of(cls, pools: Pools, workshop: Workshop, release: Release, use: Use, uses: Sequence[Use]) -> "Sharing":
        """Find out which models a plan shares.

        Args:
            pools: The models of the plan, finished.
            workshop: What they were made with.
            release: The release.
            use: What the plan was lent.
            uses: The ledger.
        """
        others = [other for other in uses if other.plan != use.plan]
        near = [other for other in others if other.release == release.name]
        refit = [other for other in others if other.fitted == use.fitted]
        original, retrained, centring = pools.pilots
        found: list[tuple[str, Member, list[Use]]] = []
        for at, member in enumerate(original):
            users = [o for o in (refit if use.own else near) if o.own == use.own and at < o.pilots]
            found.append(("original", member, users))
        for at, member in enumerate((*retrained, *centring)):
            found.append(("retrained", member, [other for other in refit if at < 2 * other.pilots]))
        if pools.lent is not None:
            taken = [(other, frozenset(other.judged)) for other in near]
            for place, member in zip(pools.lent.judged, pools.lent.members, strict=True):
                found.append(("original", member, [other for other, places in taken if place in places]))
        for at, member in enumerate(release.shadows(use.shadows)):
            found.append(("shadow", member, [other for other in near if at < other.shadows]))
        store = Store(workshop.store)
        models = []
        for role, member, users in found:
            entry = store.entry(workshop.identity.key(member))
            # What is neither shared nor of the release follows from the plan's own seed and needs no line here.
            if entry is not None and entry.model and (users or (role, use.own) == ("original", False)):
                plans = tuple(dict.fromkeys(other.plan for other in users))
                models.append(SharedModel(role, entry.model, member.seed, plans))
        return cls(release.name, use.older, tuple(models))

    def enter(self, findings: Findings, scope: Scope, log: Log) -> tuple[Findings, Scope]:
        """Return findings and scope that say what is shared.

        Args:
            findings: What was measured.
            scope: What the certificate speaks about.
            log: The project's log, where other plans' certificates stand.
        """
        judged = {digest.decode() for data in findings.evidence.values() for digest in _MODEL.findall(data)}
        # A sequence that ended early has judged some of the originals that the plan was lent, and no others.
        models = [one for one in self.models if one.role == "shadow" or one.model in judged]
        if not models:
            return findings, scope
        plans = list(dict.fromkeys(plan for one in models for plan in one.plans))
        numbers: dict[str, list[int]] = {plan: [] for plan in plans}
        for entry in log.certificates():
            if entry.plan in numbers and entry.sequence is not None:
                numbers[entry.plan].append(entry.sequence)
        plans.sort(key=lambda plan: (log.places.get(plan, log.size), plan))
        place = {plan: at for at, plan in enumerate(plans)}
        named = [{"plan": plan, "certificates": numbers[plan]} for plan in plans]
        rows: list[Mapping[str, object]] = [{"kind": "release", "release": self.release, "older": self.older}]
        rows += [{"kind": "plan", **line} for line in named]
        rows += [
            {
                "kind": "model",
                "role": one.role,
                "model": one.model,
                "seed": one.seed,
                "plans": sorted(place[plan] for plan in one.plans),
            }
            for one in models
        ]
        data = b"".join(canonical(row) + b"\n" for row in rows)
        summary = {
            "evidence": EVIDENCE,
            "models": sum(bool(one.plans) for one in models),
            "older": self.older,
            "plans": len(plans),
            "latest": named[-LATEST:],
        }
        findings = replace(findings, evidence={**findings.evidence, FILE: data}, sharing=summary)
        if not (plans or self.older):
            return findings, scope
        limitations, assumptions = (*scope.limitations, LIMITED), (*scope.assumptions, ASSUMED)
        return findings, replace(scope, limitations=limitations, assumptions=assumptions)
