"""``drill --out``: a drill whose coins nobody could choose, and the certificate of what it found.

The order is that of every audit. Candidates are drawn and reference models trained first; the plan names both by
digest and is written down; only then do the coins exist, derived from the committed seed and the plan's digest. What
is trained is kept in the project's store, so a drill that was interrupted goes on where it stopped.
"""

import hmac
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from time import process_time
from typing import Final

from cu_attacks._types import AttackError
from cu_cert._drill_lab import CONTROLS, Drawn, Lab, Measured, draw, rehearse
from cu_cert.canaries import CANARY
from cu_cert.claims import Claim, Plot, utility_claims
from cu_cert.drilling import REFERENCES, DrillResult, Setting, judged, require_coins, settle
from cu_cert.errors import ConfigError, DataError, Interrupted
from cu_cert.fleet.environment import single_threaded
from cu_cert.fleet.store import Store
from cu_cert.forget import ResolvedRequest
from cu_cert.issue import Findings, Scope, signing_key, write_certificate
from cu_cert.methods import get
from cu_cert.model_file import file_digest, save_model
from cu_cert.naming_nobody import index_of, require_plan
from cu_cert.onerun_claims import beside_claims, candidate_rows, candidates_plot, onerun_claims, reference_rows
from cu_cert.panel import eps_plot, utility_rows
from cu_cert.project import Project
from cu_cert.protocol import scope_of, workshop_of
from cu_cert.rng import Stream
from cu_cert.secrets_store import FOLDER, Secrets, write_private
from cu_cert.subjects import commit_data
from cu_certificates._files import make_folder
from cu_certificates.check.candidate_table import CandidateTable, read_candidates, read_references, read_run
from cu_certificates.check.coins import coin, derive
from cu_certificates.check.design import MAX_SLOTS
from cu_certificates.check.fields import Node
from cu_certificates.check.strict import Rejected, canonical
from cu_certificates.check.tables import rows
from cu_certificates.keys import LocalKey
from cu_certificates.plan import DEFAULT_DESIGNS, Plan, Sizes, Subject
from cu_certificates.privacy import IdIndex
from cu_certificates.request import ForgetRequest, commit
from cu_certificates.seal import Issued, write_changed

MODEL: Final = "drill-model.pt"
"""The model that the method made, and the subject of the certificate. It learned from canaries, so it is no product."""

SHOWS_NOT: Final = (
    "A drill speaks of records drawn and treated as these were, not of any request of yours, and its NOT_REFUTED of "
    "remembering alone."
)


@dataclass(frozen=True, kw_only=True)
class CertifiedDrill:
    """A drill and its certificate.

    Args:
        plan: The plan, fixed before the coins.
        result: What the drill found.
        issued: The files.
        key: The signing key, ``None`` for a draft.
    """

    plan: Plan
    result: DrillResult
    issued: Issued
    key: LocalKey | None


def certify_drill(
    project: Project,
    *,
    out: Path,
    method: str | None = None,
    options: Mapping[str, object] | None = None,
    canaries: str = "mislabelled",
    candidates: int | None = None,
    references: int = REFERENCES,
    alpha: Fraction | None = None,
    key: Path | None = None,
    passphrase: bytes | None = None,
    sign: bool = True,
    quiet: bool = False,
) -> CertifiedDrill:
    """Rehearse an unlearning method on records drawn at random, and write certificate, report, evidence and model.

    Args:
        project: Data, recipe and levels; ``[audit] attempt`` tells one drill from its repetition.
        out: Folder of the certificate.
        method: As for :func:`cu_cert.drilling.drill`, like the next five.
        options: See there.
        canaries: See there.
        candidates: See there; at most 4096.
        references: See there.
        alpha: See there.
        key: Private key that signs; default the project's, else the user's own.
        passphrase: The passphrase of a protected key.
        sign: Whether to sign; without, an unsigned draft is written.
        quiet: Show no progress.

    Raises:
        CuCertError: An input is wrong, the drill would be too small, a training or the method failed.
        CertificateError: A key or the folder is wrong.
        Interrupted: The user stopped the drill; what was trained is kept.
    """
    started = process_time()
    single_threaded()
    signer = signing_key(project.key_path(), key, passphrase) if sign else None
    setting = settle(
        project,
        method=method,
        options=options,
        canaries=canaries,
        candidates=candidates,
        references=references,
        alpha=alpha,
        seed="",
    )
    for option, size in (("--candidates", setting.design.candidates), ("--references", references)):
        if size > MAX_SLOTS:
            raise ConfigError(f"{option} {size}: expected at most {MAX_SLOTS} with --out")
    secrets = Secrets(project.root / FOLDER)
    store = Store(project.store_path(os.environ))
    lab = Lab(setting.recipe, setting.dataset.held_out, setting.progress(quiet), store)
    held = ExitStack()
    held.enter_context(store.hold("drill"))
    try:
        drawn = _draw(setting, lab, secrets)
        fixed = _fix(project, setting, drawn, secrets, out)
        measured = _rehearse(setting, lab, fixed)
        result = replace(judged(setting.design, measured, started), shows_not=SHOWS_NOT)
        findings = _findings(fixed, measured, result, out, "project" if method is None else "option")
        issued = write_certificate(
            out,
            findings,
            fixed.plan,
            _scope(project, setting, drawn, fixed.plan),
            signing=project.signing,
            key=signer.key if signer else None,
            secrets=secrets,
            forget=_index(drawn),
        )
    except (AttackError, Rejected) as problem:
        raise DataError(f"drill: nothing was signed: {problem}") from None
    except KeyboardInterrupt:
        raise Interrupted("stopped: what was trained is kept; run the same command again to go on") from None
    finally:
        held.close()
    return CertifiedDrill(plan=fixed.plan, result=result, issued=issued, key=signer)


@dataclass(frozen=True, kw_only=True)
class _Fixed:
    """What stands before the coins: the plan, its seed, the numbered candidates, the bytes that name the references."""

    plan: Plan
    seed: bytes
    drawn: Drawn
    references: bytes


def _draw(setting: Setting, lab: Lab, secrets: Secrets) -> Drawn:
    """Draw candidates and train references by a seed that is older than the plan: no coin is in it."""
    design, train = setting.design, setting.dataset.train
    seed = secrets.drill_seed(setting.recipe.digest, train.digest, design.canaries, design.candidates)
    return draw(design, lab, train, rng=Stream(seed).child("drill"))


def _fix(project: Project, setting: Setting, drawn: Drawn, secrets: Secrets, out: Path) -> _Fixed:
    """Fix the plan, enter it in the project's log and write it down."""
    design, ids, references = setting.design, drawn.candidates.records.ids, reference_rows(drawn.references)
    request_key = secrets.request_key(ids)
    public, guesses = commit(ids, request_key), design.resolution().guesses
    named = {
        "canaries": design.canaries,
        "referencesFile": {"sha256": sha256(references).hexdigest()},
    }
    draft = Plan(
        subjects=(
            Subject(
                name=MODEL,
                model="",
                method=design.method,
                parameters=_parameters(setting),
                guarantee=setting.method.guarantee,
                level=setting.method.level,
                tested_eps=design.tested_eps,
                tested_delta=design.tested_delta,
            ),
        ),
        questions=("procedure",),
        alpha_total=design.alpha,
        detect_eps=design.detect_eps,
        sizes=Sizes(
            slots=design.candidates,
            guesses=guesses,
            control_slots=design.candidates,
            control_guesses=guesses,
            references=design.references,
            negatives=CONTROLS,
            pilots=2,
        ),
        request_root=public.root,
        request_size=public.size,
        recipe=setting.recipe.digest,
        data=commit_data(setting.dataset.train, request_key),
        attempt=project.audit.attempt,
        designs={**DEFAULT_DESIGNS, "procedure": "onerun"},
        extra={"procedure": named},
        score="lira-offline",
    )
    drawn = _number(drawn, secrets.numbers_key(draft))
    records = {"records": {"sha256": _commit_candidates(drawn, request_key)}}
    plan, seed = secrets.commit(replace(draft, extra={"procedure": {**named, **records}}))
    require_plan(_index(drawn), plan, project.signing, [out])
    make_folder(out)
    secrets.register(plan.digest)
    write_changed(out / "plan.json", plan.to_bytes(), what="plan")
    write_private(out / "private", ids, request_key, seed, kept=secrets.request_key_name(ids))
    return _Fixed(plan=plan, seed=seed, drawn=drawn, references=references)


def _number(drawn: Drawn, key: bytes) -> Drawn:
    """Number the candidates in an order that nobody without the key can tell from their ids."""
    return replace(drawn, order=tuple(Stream(key).order(drawn.candidates.records.ids)))


def _commit_candidates(drawn: Drawn, key: bytes) -> str:
    """Return a keyed commitment (hex) to the candidates and their numbers, so whose coin is whose is older than any."""
    body = bytes.fromhex(drawn.candidates.records.digest) + canonical(list(drawn.order))
    return hmac.new(key, b"cu-cert/candidates/v1\0" + body, sha256).hexdigest()


def _index(drawn: Drawn) -> IdIndex:
    """Return what may stand in nothing that is handed on: the candidates' ids, and those of the records behind them."""
    ids = {name.removeprefix(CANARY) for name in drawn.candidates.records.ids} | set(drawn.candidates.records.ids)
    return index_of(sorted(ids), "a drawn record")


def _parameters(setting: Setting) -> dict[str, object]:
    sources = setting.method.sources
    return {**setting.design.parameters, **({"sourcesSha256": sources} if sources else {})}


def _rehearse(setting: Setting, lab: Lab, fixed: _Fixed) -> Measured:
    """Open the coins, train on what they put in, unlearn exactly that."""
    digest, drawn = fixed.plan.digest, fixed.drawn
    coins = tuple(coin(fixed.seed, digest, "", "candidates", number) for number in range(len(drawn.order)))
    require_coins(coins, "raise attempt in [audit], or draw more --candidates")
    rng = Stream(derive(fixed.seed, "train", digest, "", "drill"))
    return rehearse(lab, drawn, coins, setting.method, setting.params, get("retrain"), rng=rng)


def _findings(fixed: _Fixed, measured: Measured, result: DrillResult, out: Path, source: str) -> Findings:
    """Write the audited model, and turn the drill into evidence, claims and plots."""
    own = measured.subjects["method"]
    assert own.model is not None  # the method's model is kept for this
    save_model(out / MODEL, own.model)
    plan = fixed.plan
    subject = replace(plan.subjects[0], model=file_digest(out / MODEL))
    data = candidate_rows(measured, fixed.seed, subject.model)
    table = _read(fixed, data)
    sets = {"held-out": own.correct}
    beside, curve = beside_claims(result, table)
    claims: list[Claim] = [
        {"id": "c-model", "type": "model-digest", "digest": {"sha256": subject.model}},
        *onerun_claims(table, plan, subject),
        *utility_claims({name: (int(correct.sum()), len(correct)) for name, correct in sets.items()}),
        *beside,
    ]
    plots: dict[str, Plot | None] = {
        "procedure": candidates_plot(table),
        "roc": curve,
        "eps": eps_plot(claims, f"{float(subject.tested_eps):.4f}"),
    }
    return Findings(
        subject=subject,
        source=source,
        claims=claims,
        plots={name: plot for name, plot in plots.items() if plot is not None},
        evidence={
            ("plan", "plan", "plan.json", "public"): plan.to_bytes(),
            ("onerun", "onerun", "evidence/onerun.jsonl", "controlled"): data,
            ("references", "references", "evidence/references.jsonl", "controlled"): fixed.references,
            ("utility", "correct", "evidence/utility.jsonl", "controlled"): utility_rows(sets),
        },
    )


def _read(fixed: _Fixed, data: bytes) -> CandidateTable:
    """Read the evidence as the checker will."""
    plan, node = fixed.plan, Node(fixed.plan.to_json(), "plan")
    sizes = read_run(node, node.nodes("subjects")[0])
    return read_candidates(
        rows(data, "onerun.jsonl"),
        "onerun.jsonl",
        plan=node,
        plan_digest=plan.digest,
        sizes=sizes,
        references=read_references(fixed.references, "references.jsonl", sizes),
        identity=plan.subjects[0].method == "identity",
    )


def _scope(project: Project, setting: Setting, drawn: Drawn, plan: Plan) -> Scope:
    """Return what the certificate speaks about: the project's data and recipe, and a request that no person made."""
    request = ResolvedRequest(ids=drawn.candidates.records.ids)
    found = scope_of(project, setting.dataset, workshop_of(project, setting.dataset, request), request, plan)
    asked = ForgetRequest(scenario="drill", root=plan.request_root, size=plan.request_size)
    return replace(found, request=asked, asked={})
