"""What all tests share: no test touches the user's own keys, projects or store; torch runs on one thread."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

SLOW = os.environ.get("CU_CERT_SLOW") == "1"

# The same examples in every run, and none that fails for being slow on a busy machine; the full form draws new ones.
settings.register_profile("steady", deadline=None, derandomize=not SLOW)
settings.load_profile("steady")


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
