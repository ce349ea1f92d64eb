"""Shadows for an audit that trains nothing: used when all of them are in the store, else said how to make them."""

from dataclasses import dataclass

from cu_cert.fleet.engine import cohort_size
from cu_cert.fleet.plan import Member
from cu_cert.fleet.store import Store
from cu_cert.fleet.worker import Workshop
from cu_cert.project import Project
from cu_cert.release import Release
from cu_cert.secrets_store import Secrets
from cu_cert.shadows import Shadows, read_shadows
from cu_cert.sharing import SharedModel, Sharing
from cu_cert.uses import Ledger, Use
from cu_certificates.plan import Plan


@dataclass(frozen=True)
class AtHand:
    """The shadows that a project plans, and how many of them the store has.

    Args:
        workshop: What they are made with.
        release: The release.
        members: The shadows; none where the project plans none.
        finished: How many are in the store.
    """

    workshop: Workshop
    release: Release
    members: tuple[Member, ...]
    finished: int

    @classmethod
    def of(cls, project: Project, workshop: Workshop, secrets: Secrets) -> "AtHand":
        """Look into the store."""
        release = Release.of(workshop, secrets, cohort_size(workshop.recipe, project.audit.engine))
        members = release.shadows(project.audit.shadows)
        return cls(workshop, release, members, sum(workshop.finished(member) for member in members))

    @property
    def complete(self) -> bool:
        """Whether there are shadows, and none is left to make."""
        return 0 < len(self.members) == self.finished

    def lines(self) -> list[str]:
        """Say whether they are used; nothing where the project plans none."""
        planned = len(self.members)
        if not planned:
            return []
        if self.complete:
            return [f"{planned} shadows are in the store; the attacks on single records use them as well"]
        return [
            f"[audit] shadows = {planned}: the store has {self.finished} of them and none is trained here, so the "
            "attacks that need them are left out; cu-cert fleet train makes them"
        ]

    def read(self) -> Shadows | None:
        """Return the shadows as numbers, ``None`` where they are not used."""
        return read_shadows(self.workshop, self.members) if self.complete else None

    def lend(self, plan: Plan, secrets: Secrets) -> Sharing:
        """Enter in the ledger that this plan uses the shadows, and return what its certificate says of that.

        Args:
            plan: The plan, which judges no other model of the release.
            secrets: The project's memory.
        """
        ledger, shadows = Ledger(secrets), len(self.members) if self.complete else 0
        # No score is fitted on models here, so that nobody has the models of one in common with this plan.
        use = Use(
            plan=plan.digest,
            release=self.release.name,
            own=True,
            fitted=plan.digest,
            pilots=0,
            shadows=shadows,
            tokens=(),
        )
        if shadows:
            ledger.enter(use, 0, lambda _: False)
        others = [other for other in ledger.read() if other.release == use.release and other.plan != use.plan]
        store, models = Store(self.workshop.store), []
        for at, member in enumerate(self.members[:shadows]):
            entry = store.entry(self.workshop.identity.key(member))
            users = tuple(dict.fromkeys(other.plan for other in others if at < other.shadows))
            if entry is not None and entry.model and users:
                models.append(SharedModel("shadow", entry.model, member.seed, users))
        return Sharing(self.release.name, False, tuple(models))
