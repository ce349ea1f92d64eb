"""What no page, report or message of ours may say, in each language of the report, and what to say instead.

An audit can refute, it can never attest that nothing is left. A phrase below claims more than an audit, a signature or
a time stamp can show. The list is one place: the report's tests hold every string to it, and ``cu-cert lint wording``
holds any page to it. A phrase is refused in a denial too ("this is no proof of ..."), because a reader who skims takes
the phrase along and leaves the "no" behind.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """A phrase that claims too much.

    Args:
        pattern: What is searched, in text whose white space was made even; letter case does not matter.
        instead: What can be said in its place.
    """

    pattern: re.Pattern[str]
    instead: str


@dataclass(frozen=True, kw_only=True)
class Said:
    """A place where a text says such a phrase.

    Args:
        language: ``en``, ``de`` or ``fr``.
        words: The words that were found, white space made even.
        instead: What can be said in their place.
        start: Where they begin, as an index into the text as it was given.
    """

    language: str
    words: str
    instead: str
    start: int


_AUDIT: Final = {
    "en": "audit of an unlearning operation",
    "de": "Audit eines Unlearning-Vorgangs",
    "fr": "audit d'une opération de désapprentissage",
}
_DETECTED: Final = {
    "en": "the planned tests did not detect ...; they would have detected ... with probability ...",
    "de": "die geplanten Tests haben ... nicht erkannt; sie hätten ... mit Wahrscheinlichkeit ... erkannt",
    "fr": "les tests prévus n'ont pas détecté ... ; ils auraient détecté ... avec une probabilité de ...",
}
_OWN: Final = {
    "en": "evidence for the controller's own assessment",
    "de": "Belege für die eigene Bewertung des Verantwortlichen",
    "fr": "éléments pour la propre évaluation du responsable du traitement",
}
_CHECKED: Final = {
    "en": "signature valid; claims re-derived; assumed: ...",
    "de": "Signatur gültig; Aussagen nachgerechnet; angenommen: ...",
    "fr": "signature valide ; affirmations recalculées ; supposé : ...",
}
_UNDER: Final = {"en": "under assumptions ...", "de": "unter den Annahmen ...", "fr": "sous les hypothèses ..."}
_EXISTED: Final = {
    "en": "the criteria existed no later than ... and are unchanged",
    "de": "die Kriterien lagen spätestens am ... vor und sind unverändert",
    "fr": "les critères existaient au plus tard le ... et sont inchangés",
}
_VERDICT: Final = {
    "en": "NOT_REFUTED (audit), policy satisfied (gate)",
    "de": "NOT_REFUTED (Audit), Richtlinie erfüllt (Gate)",
    "fr": "NOT_REFUTED (audit), politique satisfaite (gate)",
}
_BOUND: Final = {
    "en": "a bound with its direction and level",
    "de": "eine Schranke mit Richtung und Niveau",
    "fr": "une borne avec son sens et son niveau",
}

# Each entry: what to say instead, then regular expressions. A word stands for itself alone: "verified" is not found in
# "unverified". Endings are spelled out, so that a noun such as "guarantee" stays free where "guaranteed" is refused.
_LISTS: Final[Mapping[str, tuple[tuple[Mapping[str, str], tuple[str, ...]], ...]]] = {
    "en": (
        (_AUDIT, ("proofs?", "proved", "proves that", "proven", "certificates? of (?:erasure|deletion)",
                  "deletion certificates?")),
        (_DETECTED, ("erased", "(?:data|records?) (?:has|have) been (?:deleted|removed|wiped)",
                     "(?:deleted|removed|wiped|gone) from the model", "has forgotten", "have forgotten",
                     "forgotten by the model", "no longer contains?", "nothing is left in")),
        (_OWN, ("anonymous", "anonymi[sz]ed", "compliant", "complies with", "in compliance with", "certified by")),
        (_CHECKED, ("verified",)),
        (_UNDER, ("guaranteed", "guarantees that", "impossible to (?:recover|restore|reconstruct)", "irreversibl[ey]",
                  "irrecoverabl[ey]")),
        (_EXISTED, ("fixed before testing", "criteria were fixed")),
        (_VERDICT, ("passed",)),
        (_BOUND, ("100 ?%", "(?:0|zero|no) risk", "risk-free", "p = 0\\.0+")),
    ),
    "de": (
        (_AUDIT, ("Beweise?s?", "Beweisen", "beweist", "bewiesen(?:e[nmrs]?)?", "Löschnachweise?s?",
                  "Lösch(?:ungs)?(?:zertifikat|bescheinigung|bestätigung)(?:e|en|s)?",
                  "(?:Nachweis|Zertifikat|Bescheinigung|Bestätigung) (?:der|über die) Löschung")),
        (_DETECTED, ("(?:aus|von) dem Modell (?:gelöscht|entfernt)", "vom Modell vergessen",
                     "(?:Daten|Datensätze|Angaben|Einträge) (?:wurden|sind|waren) (?:\\w+ )?(?:gelöscht|entfernt)",
                     "(?:wurden|worden|endgültig|vollständig|sicher|restlos|rückstandslos) gelöscht",
                     "gelöscht (?:wurden?|worden)", "hat (?:\\w+ ){0,4}vergessen", "vergessen hat",
                     "enthält (?:\\w+ ){0,5}nicht mehr", "enthält keine[nmrs]? (?:\\w+ ){0,4}mehr")),
        (_OWN, ("anonym(?:e[nmrs]?)?", "anonymisiert(?:e[nmrs]?)?", "(?:DSGVO-|rechts|gesetzes)?konform(?:e[nmrs]?)?",
                "im Einklang mit der DSGVO", "zertifiziert (?:von|durch)")),
        (_CHECKED, ("(?<!nicht )verifiziert(?:e[nmrs]?)?",)),
        (_UNDER, ("garantiert(?:e[nmrs]?)?", "gewährleistet", "sichergestellt", "nicht wiederherstellbar",
                  "unmöglich wiederherzustellen", "unwiederbringlich", "unwiderruflich")),
        (_EXISTED, ("(?:vor dem Test|vorab|vorher) festgelegt", "Kriterien (?:wurden|waren|sind) festgelegt")),
        (_VERDICT, ("(?:Tests?|Prüfung(?:en)?|Audits?|Kontrollen?) (?:\\w+ )?bestanden", "bestandene[nmrs]?",
                    "(?:hat|haben|ist|wurde) (?:\\w+ )?bestanden")),
        (_BOUND, ("100 ?%", "100 Prozent", "hundertprozentig(?:e[nmrs]?)?", "(?:0|null|kein|ohne) Risiko",
                  "Nullrisiko", "risikofrei(?:e[nmrs]?)?", "p = 0,0+")),
    ),
    "fr": (
        (_AUDIT, ("(?<!élément de )(?<!éléments de )preuves?", "prouve(?:nt)?", "prouvée?s?",
                  "(?:certificat|attestation)s? (?:d'effacement|d'oubli|de suppression)")),
        (_DETECTED, ("effacée?s?", "(?:supprimée?|retirée?)s? du modèle",
                     "(?:données|enregistrements) (?:ont été|sont) (?:\\w+ )?(?:supprimée?|retirée?)s",
                     "(?:a|ont) oubliée?s?", "oubliée?s? par le modèle", "ne (?:contient|contiennent) plus")),
        (_OWN, ("anonymes?", "anonymisée?s?", "conformes? (?:au RGPD|à la loi|au droit|à la réglementation)",
                "en conformité avec", "certifiée?s? par")),
        (_CHECKED, ("(?<!non )vérifiée?s?",)),
        (_UNDER, ("garantis?", "garantit", "garantissent", "(?:est|sont) garanties?",
                  "impossibles? à (?:récupérer|restaurer|reconstituer)", "irrécupérables?", "irréversibles?")),
        (_EXISTED, ("fixée?s avant (?:le|les) tests?", "critères (?:ont été|étaient|sont) fixés")),
        (_VERDICT, ("(?:tests?|audits?|contrôles?|épreuves?) (?:a été |ont été )?réussie?s?",)),
        (_BOUND, ("100 ?%", "100 pour cent", "(?:0|zéro|aucun|sans) risque", "risque (?:nul|zéro)", "p = 0,0+")),
    ),
}  # fmt: skip

PHRASES: Final[Mapping[str, tuple[Phrase, ...]]] = {
    language: tuple(
        Phrase(pattern=re.compile(rf"(?<!\w){pattern}(?!\w)", re.IGNORECASE), instead=instead[language])
        for instead, patterns in entries
        for pattern in patterns
    )
    for language, entries in _LISTS.items()
}
"""The phrases of each language."""

LANGUAGES: Final = tuple(PHRASES)

# White space of any kind becomes one blank. Characters that no reader sees, and typographic apostrophes and hyphens,
# must not hide a phrase either.
_UNSEEN: Final = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_EVEN: Final = {"\u2019": "'", "\u2010": "-", "\u2011": "-"}


def forbidden_in(said: str, languages: Iterable[str] = LANGUAGES) -> list[Said]:
    """Find what a text may not say.

    Args:
        said: The text as a reader sees it: no markup.
        languages: The lists to hold it to; by default all of them, since a page may quote another language.

    Returns:
        One entry for each place, in the order of the text. The same words in two lists count once.
    """
    even, places = _evened(said)
    found: dict[tuple[int, int], Said] = {}
    for language in languages:
        for phrase in PHRASES[language]:
            for hit in phrase.pattern.finditer(even):
                found.setdefault(
                    hit.span(),
                    Said(language=language, words=hit[0], instead=phrase.instead, start=places[hit.start()]),
                )
    return [found[span] for span in sorted(found)]


def _evened(said: str) -> tuple[str, list[int]]:
    """Return the text with even white space, and where each of its characters stood."""
    characters: list[str] = []
    places: list[int] = []
    for place, character in _seen(said):
        if character.isspace():
            if characters and characters[-1] == " ":
                continue
            character = " "
        characters.append(_EVEN.get(character, character))
        places.append(place)
    return "".join(characters), places


def _seen(said: str) -> Iterator[tuple[int, str]]:
    return ((place, character) for place, character in enumerate(said) if not _UNSEEN.match(character))
