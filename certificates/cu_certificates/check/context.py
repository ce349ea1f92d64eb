"""What every rule may look at: the predicate, the plan, the evidence, and what earlier rules established."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from hashlib import sha256
from typing import Final

from .bet_table import BetTable, BettingSizes, read_bets, read_betting
from .candidate_table import CandidateTable, RunSizes, read_candidates, read_references, read_run
from .chain_table import Chains, read_chains
from .design import (
    Coins,
    Design,
    design_name,
    design_of,
    planned_model,
    read_coins,
    require_plan,
    require_setting,
    require_subject,
    same,
)
from .fields import Node
from .label_table import LabelTable, read_labels
from .manifests import MAX_LEAVES, Tree, read_commitments
from .pool_table import PoolTable, read_pools
from .strict import Rejected, parse
from .tables import ArtifactTable, PilotTable, SlotTable, read_artifact, read_pilots, read_slots, rows

REQUEST_SCHEME: Final = "cu-cert-forget/1"


class MissingEvidence(Exception):
    """An evidence file is not at hand; the claim that needs it stays unverified.

    Args:
        name: Name of the file.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"evidence file {name} is not at hand")
        self.name = name


@dataclass
class Finding:
    """What the rules established about one question.

    Args:
        bound: Proven lower bound on eps, failed runs counted as wrong guesses.
        generous: The same with failed runs counted as right guesses: what a pass must still survive.
        least_p: The p-value had failed references scored low (artifact question).
        positive: Whether the positive control was detected.
        negative: Whether the negative control was sound.
        powered: Whether the planned power is reached.
        split: Whether the score was fitted on models that this question does not judge.
    """

    bound: Fraction | None = None
    generous: Fraction | None = None
    least_p: Fraction | None = None
    positive: bool | None = None
    negative: bool | None = None
    powered: bool | None = None
    split: bool = False


@dataclass
class Provenance:
    """What the rules established about how the model came about, for a method that states exactness.

    Args:
        chain: Whether the shards' states form one chain that ends in the audited model.
        absent: Merkle roots (hex) of manifests of which every commitment of the request was shown to be absent.
        wanted: Roots of all manifests of the chain, which must be among ``absent``.
        replayed: Whether the replayed steps are as many as the plan asks for, and all of them agree.
        contradictions: What speaks against the stated provenance, one line each; any of them refutes.
    """

    chain: bool | None = None
    absent: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)
    replayed: bool | None = None
    contradictions: list[str] = field(default_factory=list)


@dataclass
class Context:
    """The certificate under examination.

    Args:
        predicate: The certificate itself.
        fetch: Returns the bytes of an evidence file by name, or ``None``.
        findings: What was established about each question.
        claims: The claims examined so far, by id.
        proven: The number that a claim established, by id.
        unseen: The absent file behind a claim that could not be examined, by id.
        provenance: What was established about how the model came about.
        theorems: One line for each upper bound on eps that follows from a theorem and covers the stated guarantee.
    """

    predicate: Node
    fetch: Callable[[str], bytes | None]
    findings: dict[str, Finding] = field(default_factory=dict)
    claims: dict[str, Node] = field(default_factory=dict)
    proven: dict[str, Fraction] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)
    theorems: list[str] = field(default_factory=list)
    _files: dict[str, bytes] = field(default_factory=dict)
    _reading: dict[str, Node] = field(default_factory=dict)
    _rows: dict[str, list[Node]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = set()
        for entry in self.predicate.nodes("evidence"):
            identifier, name = entry.text("id"), entry.text("name")
            if identifier in self._reading or name in names:
                raise Rejected(f"{entry.path}: {identifier!r} or its name stands twice")
            entry.digest()
            self._reading[identifier] = entry
            names.add(name)

    def evidence_name(self, identifier: str) -> str:
        """Return the file name of an evidence id."""
        if identifier not in self._reading:
            raise Rejected(f"evidence {identifier!r}: referred to but not listed")
        return self._reading[identifier].text("name")

    def evidence_ids(self) -> list[str]:
        """Return the ids of all listed evidence."""
        return list(self._reading)

    def evidence(self, identifier: str) -> bytes:
        """Return the bytes of an evidence file after comparing its digest.

        Raises:
            MissingEvidence: The file is not at hand.
            Rejected: It is not listed, or its digest is not the signed one.
        """
        if identifier in self._files:
            return self._files[identifier]
        name = self.evidence_name(identifier)
        data = self.fetch(name)
        if data is None:
            raise MissingEvidence(name)
        if sha256(data).hexdigest() != self._reading[identifier].digest():
            raise Rejected(f"{name}: its digest is not the one that was signed; the file was altered or exchanged")
        self._files[identifier] = data
        return data

    def rows(self, identifier: str) -> list[Node]:
        """Return the parsed lines of an evidence file; raises as :meth:`evidence` does."""
        if identifier not in self._rows:
            self._rows[identifier] = rows(self.evidence(identifier), self.evidence_name(identifier))
        return self._rows[identifier]

    @cached_property
    def plan_digest(self) -> str:
        """P, the digest of the plan."""
        return self.predicate.node("plan").digest()

    @cached_property
    def plan(self) -> Node:
        """The plan, from its own file, after comparing it with what the certificate says of it."""
        data = self.evidence("plan")
        if sha256(data).hexdigest() != self.plan_digest:
            raise Rejected("plan.json: its digest is not the certificate's plan.digest")
        plan = Node(parse(data, "plan.json"), "plan.json")
        require_plan(plan, self.predicate.node("plan"))
        request = self.predicate.node("request").node("commitment")
        request.text("scheme", REQUEST_SCHEME)
        if request.hex("root") != plan.node("request").hex("root"):
            raise Rejected("predicate.request: its root is not the one in plan.json")
        return plan

    @cached_property
    def subject(self) -> Node:
        """The plan's entry for the audited model."""
        digest = self.predicate.node("scope").node("model").digest()
        for entry in self.plan.nodes("subjects"):
            if planned_model(self.plan, entry) in (digest, None):
                break
        else:
            raise Rejected("plan.json: does not name the audited model's digest among its subjects")
        method, stated = self.predicate.node("unlearning"), self.predicate.node("plan")
        pairs = (("method", method), ("guarantee", method), ("level", method), ("parameters", method))
        for key, node in (*pairs, ("testedEps", stated), ("testedDelta", stated)):
            if not same(entry.value.get(key), node.value.get(key)):
                raise Rejected(f"{node.path}.{key}: differs from the subject's entry in plan.json")
        require_subject(entry)
        return entry

    @cached_property
    def setting(self) -> Node:
        """The plan, after everything that a statistical claim rests on was compared with the certificate."""
        require_setting(self.plan, self.subject, self.predicate)
        return self.plan

    @cached_property
    def coins(self) -> Coins:
        """The sizes of the procedure question."""
        return read_coins(self.setting, self.subject)

    @cached_property
    def tested_eps(self) -> Fraction:
        """eps*, of the guarantee under test."""
        return self.subject.number("testedEps")

    @cached_property
    def tested_delta(self) -> Fraction:
        """delta*, of the guarantee under test."""
        return self.subject.number("testedDelta", high=Fraction(1))

    @cached_property
    def slots(self) -> SlotTable:
        """The table of the procedure question."""
        _ = self.coins  # the sizes are in range before any coin is derived
        identity = self.subject.value.get("method") == "identity"
        return read_slots(
            self.evidence("slots"),
            self.evidence_name("slots"),
            plan=self.plan,
            plan_digest=self.plan_digest,
            identity=identity,
        )

    @cached_property
    def betting(self) -> BettingSizes:
        """The sizes of the procedure question's slots that are judged one after another."""
        return read_betting(self.setting, self.subject)

    @cached_property
    def bets(self) -> BetTable:
        """The table of the procedure question's slots that are judged one after another."""
        return read_bets(
            self.evidence("slots"),
            self.evidence_name("slots"),
            plan=self.plan,
            plan_digest=self.plan_digest,
            sizes=self.betting,
            middle=self.pilots.middle(),
            identity=self.subject.value.get("method") == "identity",
        )

    @cached_property
    def pools(self) -> PoolTable:
        """The table of the procedure question without coins."""
        return read_pools(
            self.evidence("pools"), self.evidence_name("pools"), plan=self.setting, plan_digest=self.plan_digest
        )

    @cached_property
    def run(self) -> RunSizes:
        """The sizes of the procedure question by one run."""
        return read_run(self.setting, self.subject)

    @cached_property
    def candidates(self) -> CandidateTable:
        """The table of the procedure question by one run."""
        table = read_candidates(
            self.rows("onerun"),
            self.evidence_name("onerun"),
            plan=self.plan,
            plan_digest=self.plan_digest,
            sizes=self.run,
            references=read_references(self.evidence("references"), self.evidence_name("references"), self.run),
            identity=self.subject.value.get("method") == "identity",
        )
        if table.file != self.predicate.node("scope").node("model").digest():
            raise Rejected("evidence/onerun: the judged file is not the audited model")
        return table

    @cached_property
    def artifact(self) -> ArtifactTable:
        """The table of the artifact question."""
        table = read_artifact(self.evidence("artifact"), self.evidence_name("artifact"), plan=self.setting)
        if table.file != self.predicate.node("scope").node("model").digest():
            raise Rejected("evidence/artifact: the judged file is not the audited model")
        return table

    @cached_property
    def labels(self) -> LabelTable:
        """The table of the artifact question on one model."""
        table = read_labels(
            self.rows("labels"), self.evidence_name("labels"), plan=self.setting, plan_digest=self.plan_digest
        )
        if table.file != self.predicate.node("scope").node("model").digest():
            raise Rejected("evidence/labels: the judged file is not the audited model")
        return table

    @cached_property
    def pilots(self) -> PilotTable:
        """The models on which the score was fitted."""
        return read_pilots(
            self.rows("pilots"), self.evidence_name("pilots"), self.setting.node("score").whole("pilots")
        )

    @cached_property
    def request_tree(self) -> Tree:
        """The tree over the request's commitments."""
        stated = self.predicate.node("request").node("commitment")
        size = self.plan.node("request").whole("size", 1, MAX_LEAVES)
        if stated.whole("size", 1, MAX_LEAVES) != size:
            raise Rejected(f"{stated.path}.size: differs from plan.json")
        return Tree(stated.hex("root"), size)

    @cached_property
    def commitments(self) -> tuple[bytes, ...]:
        """The request's commitments, in rising order."""
        return read_commitments(self.rows("commitments"), self.evidence_name("commitments"), self.request_tree)

    @cached_property
    def chains(self) -> Chains:
        """The chain that ends in the audited model, and the one before it."""
        return read_chains(self.rows("chain"), self.evidence_name("chain"))

    def assume(self, claim: Node, *needed: str) -> None:
        """Demand that the certificate lists the assumptions on which a claim rests.

        Raises:
            Rejected: One is not listed.
        """
        absent = set(needed) - set(self.predicate.texts("assumptions"))
        if absent:
            raise Rejected(
                f"{claim.path}: rests on {', '.join(sorted(absent))}, which predicate.assumptions leaves out"
            )

    def parent(self, claim: Node, key: str, kind: str, side: str | None = None) -> tuple[Node, Fraction]:
        """Return the claim that another one builds on, and what was established there.

        Args:
            claim: The claim that builds on it.
            key: The field that names it.
            kind: The type that it must have.
            side: The side that a bound must have.

        Raises:
            Rejected: It does not stand earlier in the list, is of another kind, or was rejected.
            MissingEvidence: Its own evidence is not at hand.
        """
        name = claim.text(key)
        found = self.claims.get(name)
        if found is None or name == claim.text("id") or found.text("type") != kind:
            raise Rejected(f"{claim.path}.{key}: {name!r} is not a {kind} claim earlier in the list")
        if side is not None and found.text("side") != side:
            raise Rejected(f"{claim.path}.{key}: {name!r} is not a {side} bound")
        if name in self.unseen:
            raise MissingEvidence(self.unseen[name])
        if name not in self.proven:
            raise Rejected(f"{claim.path}.{key}: {name!r} was rejected")
        return found, self.proven[name]

    def questions(self) -> list[str]:
        """The planned questions."""
        return self.predicate.node("plan").texts("questions")

    def design(self, question: str) -> Design:
        """The planned design of a question."""
        return design_of(self.plan, question)

    def design_name(self, question: str) -> str:
        """The name of the planned design of a question."""
        return design_name(self.plan, question)

    def judged(self) -> list[str]:
        """The evidence files in which the planned questions judge."""
        return [self.design(question).evidence for question in self.questions()]

    def share(self, question: str) -> Fraction:
        """The planned share of alpha of a question."""
        return self.setting.node("alphaSplit").level(question)

    def finding(self, question: str) -> Finding:
        """The record of what was established about a question."""
        return self.findings.setdefault(question, Finding())
