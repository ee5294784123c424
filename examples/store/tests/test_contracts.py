"""What the six contracts promise over HTTP, and that importing one loads no implementation."""

from __future__ import annotations

import subprocess
import sys

import pytest

from store.catalog.contract import Catalog
from store.insights.contract import Insights
from store.inventory.contract import Inventory
from store.notifications.contract import Notifications
from store.orders.contract import Orders
from store.payments.contract import Payments
from tenfold.contracts.contract import read_contract

CONTRACTS = [Catalog, Inventory, Orders, Payments, Notifications, Insights]
ROUTES = {
    "POST /v1/products": "Catalog.add_product",
    "GET /v1/products/{product_id}": "Catalog.get_product",
    "GET /v1/products": "Catalog.list_products",
    "POST /v1/products/{product_id}/stock": "Inventory.receive_stock",
    "GET /v1/products/{product_id}/stock": "Inventory.get_stock",
    "POST /v1/orders": "Orders.place_order",
    "GET /v1/orders/{order_id}": "Orders.get_order",
    "GET /v1/customers/{customer_id}/orders": "Orders.list_customer_orders",
    "GET /v1/mail": "Notifications.list_mail",
    "GET /v1/insights/best-sellers": "Insights.best_sellers",
    "GET /v1/insights/daily-sales": "Insights.daily_sales",
}


def test_the_http_api_is_what_was_agreed() -> None:
    specs = [read_contract(contract) for contract in CONTRACTS]
    routes = {
        f"{operation.declaration.method} {operation.declaration.path}": (
            f"{spec.name}.{operation.name}"
        )
        for spec in specs
        for operation in spec.operations.values()
        if operation.declaration.path is not None
    }
    assert routes == ROUTES


@pytest.mark.parametrize("contract", CONTRACTS)
def test_every_operation_and_event_is_told_of(contract: type) -> None:
    spec = read_contract(contract)
    assert spec.doc
    assert all(operation.doc for operation in spec.operations.values())
    assert all(event.__doc__ and event.order_key_field for event in spec.events.values())


@pytest.mark.parametrize(
    "name", ["catalog", "inventory", "orders", "payments", "notifications", "insights"]
)
def test_importing_a_contract_loads_no_implementation(name: str) -> None:
    program = (
        f"import sys; import store.{name}.contract; "
        "print([m for m in sys.modules if m == 'sqlalchemy' or m.endswith('.module')"
        " or m.startswith('tenfold.path') or m.startswith('tenfold.adapters')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert done.stdout.strip() == "[]"
