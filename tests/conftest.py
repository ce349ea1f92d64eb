"""What all tests share: no test touches the user's own keys, projects or store; torch runs on one thread."""

import os
from pathlib import Path

import pytest

SLOW = os.environ.get("CU_CERT_SLOW") == "1"


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CU_CERT_CONFIG", str(tmp_path_factory.getbasetemp() / "config"))
    monkeypatch.delenv("CU_CERT_STORE", raising=False)


@pytest.fixture
def data_folder() -> Path:
    """The folder of real data sets; tests that need it skip without it."""
    found = os.environ.get("CU_CERT_DATA")
    if not found or not Path(found).is_dir():
        pytest.skip("CU_CERT_DATA names no folder of data sets")
    return Path(found)
