"""A property-based checker holds the edge, and the whole store, to their own documents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tenfold.edges.http.app import http_app
from tests.http.serving import serving
from tests.http.shop import ShopEntry, make_product
from tests.http.store_fixture import running_store

pytest.importorskip("schemathesis", reason="install the dev extra: pip install -e '.[dev]'")
pytestmark = [pytest.mark.campaign, pytest.mark.slow, pytest.mark.timeout(400)]
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "use_after_free",
    "allow_header_conformance",
)
EXAMPLES = {"small": 4, "full": 60}


def checked(url: str, folder: Path, examples: int, phases: str) -> str:
    """What the checker says of the product at a URL; fails with it where it found something."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("st")),
            "run",
            f"{url}/openapi.json",
            "--checks",
            ",".join(CHECKS),
            "--phases",
            phases,
            "--max-examples",
            str(examples),
            "--seed",
            "1",
            "--no-color",
            "--suppress-health-check",
            "all",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)},
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return done.stdout


def test_no_answer_of_the_edge_is_outside_its_document(tmp_path: Path, size: str) -> None:
    with serving(http_app(ShopEntry(), make_product())) as port:
        checked(f"http://127.0.0.1:{port}", tmp_path, EXAMPLES[size], "examples,coverage,fuzzing")


def test_no_answer_of_the_store_is_outside_its_document(tmp_path: Path, size: str) -> None:
    with running_store(tmp_path / "data") as store:
        report = checked(store.url, tmp_path, EXAMPLES[size], "examples,coverage,fuzzing,stateful")
        assert "Stateful" in report
        with urlopen(f"{store.url}/openapi.json", timeout=10) as answer:
            paths = json.load(answer)["paths"]
        tested = sum(len(methods) for methods in paths.values())
        assert f"{tested} selected / {tested} total" in report, report[-4000:]
        store.is_well()
