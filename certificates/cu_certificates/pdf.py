"""A report on paper: the page printed by an installed Chromium, which is asked to reach nothing outside the page.

The PDF is a copy for reading and filing. It carries no signature and says so at the foot of each sheet.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Literal

from cu_certificates._files import make_folder, read_bytes, write_atomic
from cu_certificates.errors import UsageError

BROWSER_VARIABLE: Final = "CU_CERT_CHROMIUM"
"""Names the browser to use, where it is not found by one of :data:`BROWSERS`."""
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")

Paper = Literal["A4", "Letter"]

_SECONDS: Final = 120
_MAX_PDF: Final = 64 * 1024 * 1024
_OPTIONS: Final = (
    "--headless",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # The page loads nothing; should a browser of its own accord look something up, it finds no host.
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-pdf-header-footer",
    "--generate-pdf-document-outline",
)


def find_browser() -> str:
    """Return the path of an installed Chromium or a browser built on it.

    Raises:
        UsageError: There is none; the message says what to do without one.
    """
    named = os.environ.get(BROWSER_VARIABLE)
    for name in (named,) if named else BROWSERS:
        if found := shutil.which(name):
            return found
    looked = f"{BROWSER_VARIABLE}={named!r}" if named else f"looked for {', '.join(BROWSERS)}"
    raise UsageError(
        f"a PDF needs an installed Chromium, and none was found ({looked}); install one, name it in "
        f"{BROWSER_VARIABLE}, or open report.html in any browser and print it: the page has a layout for paper"
    )


def print_pdf(page: bytes, out: Path, *, paper: Paper = "A4") -> None:
    """Print a page to a file, which is replaced only once the whole of it is there.

    Args:
        page: The bytes of the report.
        out: The PDF.
        paper: The size of a sheet.

    Raises:
        UsageError: No browser is installed, it fails, or the file cannot be written.
    """
    browser = find_browser()
    make_folder(out.parent)
    with tempfile.TemporaryDirectory(prefix="cu-cert-pdf-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        # The signed page leaves the size to the reader's printer; this copy is for one printer alone.
        sized = page.replace(b"</head>", b"<style>@page { size: %b; }</style></head>" % paper.encode(), 1)
        (folder / "report.html").write_bytes(sized)
        printed = folder / "report.pdf"
        # Chromium refuses to start as root unless its sandbox is off; the page it is given runs no script.
        unboxed = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
        command = [
            browser,
            *_OPTIONS,
            *unboxed,
            f"--user-data-dir={folder / 'profile'}",
            f"--print-to-pdf={printed}",
            (folder / "report.html").as_uri(),
        ]
        problem = _run(command)
        if problem is None and not printed.is_file():
            problem = "it ended without writing anything"
        if problem is not None:
            raise UsageError(f"{browser!r} did not print the page: {problem}; print report.html from a browser instead")
        data = read_bytes(printed, what="PDF", max_bytes=_MAX_PDF)
    write_atomic(out, data, what="PDF")


def _run(command: list[str]) -> str | None:
    """Run the browser; return what went wrong, in a few words."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"it was still busy after {_SECONDS} seconds"
    except OSError as error:
        return str(error.strerror)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return f"it ended with {done.returncode}: {said[-1][:200] if said else 'no message'}"
    return None
