"""The request on paper: a list of ids, held against the data before anything is trained."""

import difflib
from dataclasses import dataclass

from cu_cert.data import Dataset
from cu_cert.data._ids import IdList, ListedId, read_ids
from cu_cert.errors import DataError
from cu_certificates.privacy import IdIndex

__all__ = ["IdList", "ListedId", "ResolvedRequest", "listed_index", "read_ids", "resolve_request"]

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class ResolvedRequest:
    """Which training records must go.

    Args:
        ids: Ids of training records, strictly ascending, at least one.
        missing: How many further ids the list named that are not in the data.

    Raises:
        DataError: The ids are not ascending, or there are none.
    """

    ids: tuple[str, ...]
    missing: int = 0

    def __post_init__(self) -> None:
        if not self.ids or list(self.ids) != sorted(set(self.ids)):
            raise DataError(f"request: {len(self.ids)} ids; expected at least one, strictly ascending")
        if self.missing < 0:
            raise DataError(f"request: {self.missing} missing ids; expected 0 or more")


def listed_index(ids: IdList) -> IdIndex:
    """Return the ids of a list, found or not, ready to be looked for in what is handed on."""
    return IdIndex({entry.id: f"{ids.path.name}:{entry.line}" for entry in ids.entries})


def resolve_request(ids: IdList, dataset: Dataset, *, allow_missing: bool) -> ResolvedRequest:
    """Hold a list of ids against the data.

    Args:
        ids: What :func:`read_ids` returned.
        dataset: All records and which of them are held out.
        allow_missing: Whether ids that are not in the data are counted instead of refused.

    Raises:
        DataError: An id is not in the data, is held out (no model was trained on it), or the list names all training
            records. The message gives file, line and id.
    """
    held_out = set(dataset.holdout)
    unknown = [entry for entry in ids.entries if entry.id not in dataset.records]
    if unknown and not allow_missing:
        raise DataError(_unknown(ids, unknown, dataset))
    outside = [entry for entry in ids.entries if entry.id in held_out]
    if outside:
        first, others = outside[0], _listed(outside[1:])
        raise DataError(
            f"{ids.path}:{first.line}: id {first.id!r} is held out, so no model of this project was trained on it and "
            f"there is nothing to unlearn; remove the line{f' (likewise {others})' if others else ''}"
        )
    known = tuple(sorted(entry.id for entry in ids.entries if entry.id in dataset.records))
    if not known:
        first = unknown[0]
        raise DataError(
            f"{ids.path}:{first.line}: id {first.id!r} is not in the data, and neither is any other of the "
            f"{len(unknown)} ids; is this list for other data?"
        )
    trained = len(dataset.records) - len(dataset.holdout)
    if len(known) == trained:
        last = ids.entries[-1]
        raise DataError(
            f"{ids.path}:{last.line}: with id {last.id!r} the list names all {trained} training records; nothing would "
            "remain to train on or to compare with. Delete the model instead"
        )
    return ResolvedRequest(ids=known, missing=len(unknown))


def _unknown(ids: IdList, unknown: list[ListedId], dataset: Dataset) -> str:
    first = unknown[0]
    close = difflib.get_close_matches(first.id, dataset.records.ids, n=1, cutoff=0.8)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    others = _listed(unknown[1:])
    rest = f"; so {'are' if len(unknown) > 2 else 'is'} {others}" if others else ""
    return (
        f"{ids.path}:{first.line}: id {first.id!r} is not in the data{hint}{rest}. There are {len(dataset.records)} "
        "records. Correct the list (one id a line), or pass --allow-missing to count such ids and go on"
    )


def _listed(entries: list[ListedId]) -> str:
    """Name the first few entries and count the others."""
    named = ", ".join(f"{entry.id!r} on line {entry.line}" for entry in entries[: _SHOWN - 1])
    return named + (f" and {len(entries) - _SHOWN + 1} more" if len(entries) >= _SHOWN else "")
