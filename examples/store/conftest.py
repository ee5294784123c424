"""What the store's own tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The loop that the store runs on."""
    return "asyncio"
