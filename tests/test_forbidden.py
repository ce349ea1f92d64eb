"""The list of what no text of ours may say: what the design forbids is found in each language, and nothing else."""

import pytest

from cu_certificates._forbidden import LANGUAGES, PHRASES, forbidden_in

# The left column of the design's table of wording, and its sense in the other two languages.
NEVER = {
    "en": ["proof of erasure", "certificate of erasure", "data has been deleted from the model",
           "the model has forgotten", "it no longer contains", "anonymous", "GDPR-compliant", "certified by",
           "verified", "guaranteed", "impossible to recover", "criteria were fixed", "passed", "100 %", "0 risk",
           "p = 0.000"],
    "de": ["Beweis der Löschung", "Löschzertifikat", "die Daten wurden vollständig gelöscht", "aus dem Modell entfernt",
           "das Modell hat die Daten vergessen", "enthält die Daten nicht mehr", "anonymisierte", "DSGVO-konform",
           "zertifiziert durch", "verifiziert", "garantiert", "unwiederbringlich", "vorab festgelegt", "Test bestanden",
           "100\u00a0%", "kein Risiko", "p = 0,000"],
    "fr": ["preuve de suppression", "certificat d’effacement", "les données ont été supprimées", "supprimé du modèle",
           "le modèle a oublié", "ne contient plus", "anonymisées", "conforme au RGPD", "certifié par", "vérifié",
           "garanti", "irréversible", "critères ont été fixés", "test réussi", "100\u202f%", "aucun risque",
           "p = 0,000"],
}  # fmt: skip
FINE = {
    "en": ["unverified", "The guarantee under test", "proofread", "evidence for the controller's own assessment",
           "1100 %", "bypassed", "delete it", "policy satisfied"],
    "de": ["Die geprüfte Zusage (Garantie) eps", "nicht verifiziert", "Richtlinie erfüllt",
           "Die Kriterien bestanden spätestens am 20. November", "Der Prüfer kann die Belege löschen"],
    "fr": ["éléments de preuve", "non vérifié", "La garantie testée", "le modèle d'avant", "politique satisfaite"],
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_refuses_what_the_design_forbids_and_lets_the_rest_be(language: str) -> None:
    for phrase in NEVER[language]:
        for text in (
            phrase,
            phrase.upper(),
            f"So: {phrase}.",
            phrase.replace(" ", "\n  "),
            f"nicht {phrase}" * 0 + phrase,
        ):
            found = forbidden_in(text, [language])
            assert found, text
            assert all(one.language == language and one.instead for one in found)
    for phrase in FINE[language]:
        assert forbidden_in(phrase, [language]) == [], phrase
    assert len(PHRASES[language]) > 25


def test_what_can_be_said_instead_may_be_said() -> None:
    for language, phrases in PHRASES.items():
        for phrase in phrases:
            assert forbidden_in(phrase.instead, [language]) == [], phrase.instead


def test_places_point_into_the_text_as_it_was_given() -> None:
    text = "a\u00ad  b\n\n  has\u00a0\u200bforgotten"
    (found,) = forbidden_in(text, ["en"])
    assert text[found.start :].startswith("has")
    assert found.words == "has forgotten"
