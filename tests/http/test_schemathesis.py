"""A property-based checker holds the edge to its own document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tenfold.edges.http.app import http_app
from tests.http.serving import serving
from tests.http.shop import ShopEntry, make_product

pytest.importorskip("schemathesis", reason="install the dev extra: pip install -e '.[dev]'")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
)


def test_no_answer_is_outside_the_document(tmp_path: Path) -> None:
    with serving(http_app(ShopEntry(), make_product())) as port:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("st")),
                "run",
                f"http://127.0.0.1:{port}/openapi.json",
                "--checks",
                ",".join(CHECKS),
                "--phases",
                "examples,coverage,fuzzing",
                "--max-examples",
                "15",
                "--seed",
                "1",
                "--no-color",
                "--suppress-health-check",
                "all",
            ],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
