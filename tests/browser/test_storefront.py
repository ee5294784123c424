"""What visitors do in the storefront, in a real browser against a real store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
Visit = Callable[..., Page]


def put_in_basket(page: Page, name: str, quantity: int = 1) -> None:
    page.get_by_label("Search products").fill(name)
    page.get_by_label("Search products").press("Enter")
    page.get_by_role("link", name=name).click()
    page.get_by_label("Quantity").fill(str(quantity))
    page.get_by_role("button", name="Add to basket").click()
    expect(page.get_by_role("heading", name="Basket")).to_be_visible()


def place_order(page: Page, customer: str) -> None:
    page.get_by_label("Customer number").fill(customer)
    page.get_by_role("button", name="Place order").click()
    expect(page.get_by_role("heading", name="Order")).to_be_visible()


@pytest.fixture
def lantern(shop: Any) -> str:
    """A product of this test alone."""
    name = f"Tin lantern {uuid4().hex[:8]}"
    shop.add_product(f"L-{uuid4().hex[:8]}", name, "12.50", stock=20)
    return name


def test_the_first_page_shows_products_and_leads_on(visit: Visit) -> None:
    page = visit("/")
    expect(page).to_have_title("Shop · Pennywhistle")
    assert page.locator(".grid .card").count() > 10
    page.locator(".grid .card a").first.click()
    expect(page.get_by_role("button", name="Add to basket")).to_be_visible()


def test_search_finds_by_name_and_says_when_nothing_is_found(visit: Visit, lantern: str) -> None:
    page = visit("/")
    page.get_by_label("Search products").fill(lantern.lower())
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".card")).to_have_count(1)
    page.goto("/?search=zzzz-nothing")
    expect(page.get_by_text("Nothing in the shop is called that")).to_be_visible()


def test_pages_of_a_long_list_follow_one_another(visit: Visit, shop: Any) -> None:
    word = uuid4().hex[:8]
    for number in range(30):
        shop.add_product(f"{word}-{number}", f"Button {word} number {number}", "0.10", stock=0)
    page = visit(f"/?search={word}")
    expect(page.locator(".card")).to_have_count(24)
    page.get_by_role("link", name="Next page").click()
    expect(page.locator(".card")).to_have_count(6)
    page.get_by_role("link", name="First page").click()
    expect(page.locator(".card")).to_have_count(24)


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "phone"])
def test_an_order_is_seen_to_become_confirmed_without_a_reload(
    visit: Visit, shop: Any, lantern: str, options: dict[str, Any]
) -> None:
    customer = f"B{uuid4().hex[:8]}"
    page = visit("/", **options)
    put_in_basket(page, lantern, 3)
    expect(page.locator(".total strong")).to_have_text("£37.50")
    place_order(page, customer)
    expect(page.locator(".steps.confirmed")).to_be_visible()
    loads = page.evaluate("performance.getEntriesByType('navigation')[0].type")
    assert loads == "navigate"
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    orders = shop.call("GET", f"/v1/customers/{customer}/orders")["items"]
    assert [(order["status"], order["total"]["amount"]) for order in orders] == [
        ("confirmed", "37.50")
    ]
    page.get_by_role("link", name="Basket").click()
    expect(page.get_by_text("Nothing in it yet")).to_be_visible()


def test_the_mailbox_has_one_mail_for_a_confirmed_order(visit: Visit, lantern: str) -> None:
    customer = f"M{uuid4().hex[:8]}"
    page = visit("/")
    put_in_basket(page, lantern)
    place_order(page, customer)
    expect(page.locator(".steps.confirmed")).to_be_visible()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Mailbox").click()
    expect(page.get_by_label("Customer number")).to_have_value(customer)
    for _ in range(20):
        if page.locator(".mail").count():
            break
        page.reload()
    expect(page.locator(".mail")).to_have_count(1)
    expect(page.locator(".mail-body")).to_contain_text(lantern)
    page.get_by_role("link", name="See the order").click()
    expect(page.locator(".steps.confirmed")).to_be_visible()


def test_everything_works_without_javascript(visit: Visit, lantern: str) -> None:
    customer = f"N{uuid4().hex[:8]}"
    page = visit("/", java_script_enabled=False)
    put_in_basket(page, lantern, 2)
    place_order(page, customer)
    # The page loads itself anew until the order is settled.
    expect(page.locator(".steps.confirmed")).to_be_visible()
    page.get_by_role("link", name=f"Orders of {customer}").click()
    expect(page.locator(".order .badge")).to_have_text("confirmed")


def test_a_declined_payment_is_told_kindly(visit: Visit, lantern: str) -> None:
    page = visit("/")
    put_in_basket(page, lantern)
    place_order(page, "declined")
    expect(page.locator(".steps.rejected")).to_be_visible()
    expect(page.get_by_text("Nothing was charged")).to_be_visible()


def test_a_sold_out_product_cannot_be_bought_and_a_short_one_is_told(
    visit: Visit, shop: Any
) -> None:
    gone = shop.add_product(f"G-{uuid4().hex[:8]}", "Sold out thing", "1.00", stock=0)
    page = visit(f"/products/{gone['id']}")
    expect(page.get_by_text("Sold out", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Add to basket")).to_have_count(0)
    few = shop.add_product(f"F-{uuid4().hex[:8]}", f"Rare thing {uuid4().hex[:6]}", "1.00", stock=2)
    page.goto(f"/products/{few['id']}")
    expect(page.get_by_text("Only 2 left")).to_be_visible()
    for _ in range(2):
        page.goto(f"/products/{few['id']}")
        page.get_by_label("Quantity").fill("2")
        page.get_by_role("button", name="Add to basket").click()
    expect(page.get_by_text("this order would be turned down")).to_be_visible()
    place_order(page, f"S{uuid4().hex[:8]}")
    expect(page.get_by_text("Rejected: out of stock.")).to_be_visible()


def test_a_basket_is_changed_and_emptied(visit: Visit, lantern: str) -> None:
    page = visit("/")
    put_in_basket(page, lantern)
    page.get_by_label(f"Quantity of {lantern}").fill("4")
    page.get_by_role("button", name="Update quantities").last.click()
    expect(page.locator(".total strong")).to_have_text("£50.00")
    expect(page.locator(".count")).to_contain_text("4")
    page.get_by_role("button", name=f"Remove {lantern}").click()
    expect(page.get_by_text("Nothing in it yet")).to_be_visible()


def test_a_form_sent_twice_is_one_order(visit: Visit, shop: Any, lantern: str) -> None:
    customer = f"D{uuid4().hex[:8]}"
    page = visit("/")
    put_in_basket(page, lantern)
    page.get_by_label("Customer number").fill(customer)
    sent = page.evaluate(
        """async () => {
            const form = document.querySelector('.panel');
            const send = () => fetch(form.action, {
                method: 'POST', body: new URLSearchParams(new FormData(form)) });
            return (await Promise.all([send(), send(), send()])).map(answer => answer.url);
        }"""
    )
    assert len(set(sent)) == 1
    page.get_by_role("button", name="Place order").click()
    assert page.url == sent[0]
    expect(page.locator(".steps.confirmed")).to_be_visible()
    assert len(shop.call("GET", f"/v1/customers/{customer}/orders")["items"]) == 1


def test_what_cannot_be_done_is_said_on_a_page_with_the_right_status(
    visit: Visit, lantern: str
) -> None:
    page = visit("/")
    for path, status in [
        ("/nothing", 404),
        (f"/products/{uuid4()}", 404),
        (f"/orders/{uuid4()}", 404),
        ("/products/not-an-id", 404),
        ("/?cursor=garbage", 400),
        ("/orders?customer_id=%00", 422),
        ("/mail?customer_id=a%20b", 422),
    ]:
        answer = page.goto(path)
        assert answer is not None
        assert (path, answer.status) == (path, status)
        expect(page.get_by_role("link", name="To the shop")).to_be_visible()
    put_in_basket(page, lantern)
    page.get_by_label("Customer number").fill("no such number")
    page.get_by_role("button", name="Place order").click()
    expect(page.get_by_role("alert")).to_contain_text("customer number")
    expect(page.get_by_label("Customer number")).to_have_value("no such number")


def test_a_page_of_another_site_cannot_post(visit: Visit, shop: Any, lantern: str) -> None:
    page = visit("/")
    answer = page.request.post(
        f"{shop.url}/basket/add",
        form={"product_id": str(uuid4())},
        headers={"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status == 403


def test_pages_are_readable_by_keyboard_and_screen_reader(visit: Visit, lantern: str) -> None:
    page = visit("/")
    put_in_basket(page, lantern)
    for path in ("/", "/basket", "/orders", "/mail"):
        page.goto(path)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        assert page.locator("h1").count() == 1
        assert page.get_attribute("html", "lang") == "en"
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll('input:not([type=hidden])')]
                .filter(field => !field.labels.length).length"""
        )
        assert unnamed == 0
        assert page.locator("img:not([alt])").count() == 0


def test_static_files_are_kept_and_asked_for_by_version(visit: Visit, shop: Any) -> None:
    page = visit("/")
    href = page.get_attribute("link[rel=stylesheet]", "href")
    answer = page.request.get(shop.url + str(href))
    assert "immutable" in answer.headers["cache-control"]
    again = page.request.get(
        shop.url + str(href), headers={"If-None-Match": answer.headers["etag"]}
    )
    assert again.status == 304
    assert "script-src 'self'" in answer.headers["content-security-policy"]
