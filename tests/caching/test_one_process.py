"""Kept answers in one process: fresh, shared with nobody, never older than one's own write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tenfold.contracts.errors import HandlerFaultError
from tests.caching.shop import ADA, BEN, ShopBench
from tests.caching.shop_contract import NoSuchSku

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[ShopBench]:
    made = ShopBench(tmp_path)
    await made.start()
    await made.shop.set_price("tea", 255)
    yield made
    await made.stop()


async def test_a_second_question_runs_no_handler(bench: ShopBench) -> None:
    assert (await bench.shop.price("tea")).price == 255
    assert (await bench.shop.price("tea")).price == 255
    assert bench.doings.ran["price"] == 1
    assert bench.counts("shop.price") == {"computed": 1, "first": 1}


async def test_callers_share_no_value(bench: ShopBench) -> None:
    await bench.shop.price("tea")
    one = await bench.shop.price("tea")
    one.labels.append("spoilt")
    assert (await bench.shop.price("tea")).labels == ["new"]


async def test_other_arguments_are_another_answer(bench: ShopBench) -> None:
    await bench.shop.set_price("milk", 99)
    assert (await bench.shop.price("tea")).price == 255
    assert (await bench.shop.price("milk")).price == 99


async def test_an_answer_expires(bench: ShopBench) -> None:
    await bench.shop.timed("tea")
    bench.clock.jump(59)  # type: ignore[attr-defined]
    await bench.shop.timed("tea")
    assert bench.doings.ran["timed"] == 1
    bench.clock.jump(2)  # type: ignore[attr-defined]
    await bench.shop.timed("tea")
    assert bench.doings.ran["timed"] == 2


async def test_who_wrote_reads_it_in_the_next_question(bench: ShopBench) -> None:
    for price in range(100, 150):
        await bench.shop.set_price("tea", price)
        assert (await bench.shop.price("tea")).price == price


async def test_an_event_drops_what_other_modules_keep(bench: ShopBench) -> None:
    assert await bench.tells.told("tea") == 1
    assert await bench.tells.told("tea") == 1
    await bench.shop.set_price("tea", 1)
    assert await bench.tells.told("tea") == 2


async def test_an_event_drops_nothing_of_other_fields(bench: ShopBench) -> None:
    assert await bench.tells.told("tea") == 1
    await bench.shop.set_price("milk", 1)
    assert await bench.tells.told("tea") == 1


async def test_a_command_drops_the_tags_that_it_names(bench: ShopBench) -> None:
    assert await bench.shop.shared("tea") == "255 for anonymous"
    await bench.shop.set_quietly("tea", 256)
    assert await bench.shop.shared("tea") == "256 for anonymous"


async def test_one_principal_is_never_given_anothers_answer(bench: ShopBench) -> None:
    await bench.ask("shop.price", who=ADA, sku="tea")
    await bench.ask("shop.price", who=BEN, sku="tea")
    assert bench.doings.ran["price"] == 2


async def test_a_principal_with_other_permissions_is_another(bench: ShopBench) -> None:
    from tenfold import Principal

    await bench.ask("shop.price", who=ADA, sku="tea")
    await bench.ask("shop.price", who=Principal(id="ada", permissions=("buyer",)), sku="tea")
    assert bench.doings.ran["price"] == 2


async def test_one_tenant_is_never_given_anothers_answer(bench: ShopBench) -> None:
    await bench.ask("shop.set_price", tenant="other", sku="tea", price=999)
    assert (await bench.ask("shop.price", sku="tea")).value.price == 255
    assert (await bench.ask("shop.price", tenant="other", sku="tea")).value.price == 999
    assert (await bench.ask("shop.shared", sku="tea")).value == "255 for anonymous"
    assert (await bench.ask("shop.shared", tenant="other", sku="tea")).value.startswith("999")


async def test_one_tenants_event_drops_nothing_of_anothers(bench: ShopBench) -> None:
    await bench.ask("tells.told", sku="tea")
    await bench.ask("shop.set_price", tenant="other", sku="tea", price=1)
    assert (await bench.ask("tells.told", sku="tea")).value == 1


async def test_who_asks_does_not_show_in_what_everyone_shares(bench: ShopBench) -> None:
    assert (await bench.ask("shop.shared", who=ADA, sku="tea")).value == "255 for anonymous"
    assert (await bench.ask("shop.shared", who=BEN, sku="tea")).value == "255 for anonymous"
    assert bench.doings.ran["shared"] == 1


async def test_a_thousand_at_once_compute_once(bench: ShopBench) -> None:
    bench.doings.slow_s = 0.02
    answers = await asyncio.gather(*(bench.shop.price("tea") for _ in range(1000)))
    assert {answer.price for answer in answers} == {255}
    assert bench.doings.ran["price"] == 1


async def test_a_fill_does_not_end_with_who_asked_first(bench: ShopBench) -> None:
    bench.doings.hold = asyncio.Event()
    first = asyncio.create_task(bench.ask("shop.price", sku="tea"))
    await bench.doings.holding.wait()
    second = asyncio.create_task(bench.ask("shop.price", sku="tea"))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    bench.doings.hold.set()
    assert (await second).value.price == 255
    assert bench.doings.ran["price"] == 1


async def test_who_asks_after_a_write_does_not_join_a_fill_from_before(bench: ShopBench) -> None:
    bench.doings.hold = hold = asyncio.Event()
    early = asyncio.create_task(bench.ask("shop.price", sku="tea"))
    await bench.doings.holding.wait()  # it has read the old price
    await bench.shop.set_price("tea", 1)
    bench.doings.hold = None
    assert (await bench.shop.price("tea")).price == 1
    hold.set()
    assert (await early).value.price == 255
    assert (await bench.shop.price("tea")).price == 1  # the late fill was not kept
    assert bench.counts("shop.price")["outdated"] == 1


async def test_many_to_whom_a_fill_was_too_old_share_the_next(bench: ShopBench) -> None:
    bench.doings.hold = asyncio.Event()
    first = asyncio.create_task(bench.ask("shop.shared", sku="tea"))
    await bench.doings.holding.wait()
    written = await bench.ask("shop.set_price", sku="tea", price=7)
    others = [
        asyncio.create_task(bench.ask("shop.shared", sku="tea", position=written.position))
        for _ in range(50)
    ]
    for _ in range(3):
        await asyncio.sleep(0)  # all of them have joined the fill that began before the write
    bench.doings.hold.set()
    assert (await first).value == "255 for anonymous"
    assert {(await other).value for other in others} == {"7 for anonymous"}
    assert bench.doings.ran["shared"] == 2


async def test_a_refusal_is_not_kept(bench: ShopBench) -> None:
    for _ in range(2):
        with pytest.raises(NoSuchSku):
            await bench.shop.price("coffee")
    await bench.shop.set_quietly("coffee", 5)
    assert (await bench.shop.price("coffee")).price == 5


async def test_a_fault_is_not_kept(bench: ShopBench) -> None:
    bench.doings.fail = ZeroDivisionError("asked to fail")
    with pytest.raises(HandlerFaultError):
        await bench.shop.price("tea")
    bench.doings.fail = None
    assert (await bench.shop.price("tea")).price == 255


async def test_an_old_answer_is_better_than_a_fault(bench: ShopBench) -> None:
    await bench.shop.price("tea")
    bench.clock.jump(61)  # type: ignore[attr-defined]
    bench.doings.fail = ZeroDivisionError("asked to fail")
    reply = await bench.ask("shop.price", sku="tea")
    assert reply.value.price == 255
    assert reply.kept is not None
    assert reply.kept.left_s < 0
    assert bench.counts("shop.price")["stale"] == 1
    bench.clock.jump(600)  # type: ignore[attr-defined]
    with pytest.raises(HandlerFaultError):
        await bench.shop.price("tea")


async def test_a_refusal_is_better_than_an_old_answer(bench: ShopBench) -> None:
    await bench.shop.price("tea")
    bench.clock.jump(61)  # type: ignore[attr-defined]
    bench.doings.fail = NoSuchSku(sku="tea")
    with pytest.raises(NoSuchSku):
        await bench.shop.price("tea")


async def test_what_was_dropped_is_not_given_for_a_fault(bench: ShopBench) -> None:
    await bench.shop.price("tea")
    await bench.shop.set_price("tea", 1)
    bench.doings.fail = ZeroDivisionError("asked to fail")
    with pytest.raises(HandlerFaultError):
        await bench.shop.price("tea")


async def test_a_decision_goes_past_the_cache(bench: ShopBench) -> None:
    assert await bench.tells.told("tea") == 1
    assert await bench.shop.decide("tea") == [2, 1]


async def test_who_has_seen_more_passes_an_answer_by(bench: ShopBench) -> None:
    assert (await bench.ask("shop.timed", sku="tea")).value == 255
    written = await bench.ask("shop.set_price", sku="tea", price=1)
    assert (await bench.ask("shop.timed", sku="tea")).value == 255  # within its time
    later = await bench.ask("shop.timed", sku="tea", position=written.position)
    assert later.value == 1
    assert (await bench.ask("shop.timed", sku="tea", position=written.position)).value == 1
    assert bench.doings.ran["timed"] == 2
    assert (await bench.ask("shop.timed", sku="tea")).value == 1


async def test_a_position_of_a_module_that_cannot_show_is_no_reason_to_pass(
    bench: ShopBench,
) -> None:
    written = await bench.ask("shop.set_price", sku="tea", price=1)
    assert written.position is not None
    elsewhere = written.position.replace("shop.", "elsewhere.")
    await bench.ask("shop.timed", sku="tea")
    await bench.ask("shop.timed", sku="tea", position=elsewhere)
    assert bench.doings.ran["timed"] == 1


async def test_an_answer_from_a_projection_that_lagged_is_passed_by(bench: ShopBench) -> None:
    await bench.host.idle()
    assert (await bench.ask("tells.changed", sku="tea")).value == 1
    written = await bench.ask("shop.set_price", sku="tea", price=1)
    assert (await bench.ask("tells.changed", sku="tea")).value == 1
    assert (await bench.ask("tells.changed", sku="tea", position=written.position)).value == 2


async def test_what_a_query_asks_another_is_told_what_its_caller_has_seen(
    bench: ShopBench,
) -> None:
    first = await bench.ask("shop.through", sku="tea")
    assert (await bench.ask("shop.through", sku="tea")).value == first.value
    assert (await bench.ask("shop.through", sku="tea")).kept is None


async def test_an_answer_is_computed_anew_before_it_expires(bench: ShopBench) -> None:
    bench.doings.slow_s = 0.2
    await bench.shop.price("tea")
    bench.clock.jump(59.99)  # type: ignore[attr-defined]
    bench.doings.hold = asyncio.Event()
    answers = await asyncio.gather(*(bench.shop.price("tea") for _ in range(200)))
    assert {answer.price for answer in answers} == {255}  # nobody waited for the one that runs
    await bench.doings.holding.wait()
    bench.doings.hold.set()
    while bench.counts("shop.price").get("early") is None:
        await asyncio.sleep(0)
    bench.clock.jump(30)  # type: ignore[attr-defined]
    await bench.shop.price("tea")
    assert bench.doings.ran["price"] == 2


async def test_the_reply_says_how_old_it_is(bench: ShopBench) -> None:
    await bench.ask("shop.timed", sku="tea")
    bench.clock.jump(20)  # type: ignore[attr-defined]
    kept = (await bench.ask("shop.timed", sku="tea")).kept
    assert kept is not None
    assert round(kept.age_s) == 20
    assert round(kept.left_s) == 40


async def test_an_operation_that_declares_nothing_is_left_alone(bench: ShopBench) -> None:
    operations = bench.host._running._operations
    assert operations["shop.through"].cached is None
    assert operations["shop.decide"].dropping is not None  # the module publishes what drops
    assert operations["tells.told"].dropping is None
