"""A balancer's figures fit those of the product behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.runtimes.balancers.haproxy import render_haproxy
from tenfold.runtimes.balancers.nginx import render_nginx
from tenfold.runtimes.balancers.plan import decide_balancer, decide_linger
from tenfold.runtimes.balancers.settings import BalancerSettings
from tenfold.runtimes.settings import HttpLimits


@given(st.floats(1, 3600), st.floats(1, 3600))
def test_connections_are_kept_for_less_long_than_the_product_keeps_them(
    keep_alive_s: float, max_wait_s: float
) -> None:
    http = HttpLimits(keep_alive_s=keep_alive_s, max_wait_s=max_wait_s)
    plan = decide_balancer("shop", BalancerSettings(), http)
    assert plan.kept_s < max(1, round(keep_alive_s))
    assert plan.answer_s > max_wait_s


def test_without_servers_the_product_is_alone() -> None:
    plan = decide_balancer("shop", BalancerSettings(), HttpLimits(host="::1", port=9000))
    assert plan.servers == ("[::1]:9000",)
    assert decide_linger(BalancerSettings()) == 0


def test_a_machine_lingers_until_a_balancer_must_have_noticed() -> None:
    settings = BalancerSettings(servers=("10.0.0.1:80",), check_s=2.0, fall=3)
    assert decide_linger(settings) > 6.0


@pytest.mark.parametrize("render", [render_nginx, render_haproxy])
def test_every_server_is_named(render: object) -> None:
    settings = BalancerSettings(servers=("10.0.0.1:8000", "[fd00::2]:8001"))
    text = render(decide_balancer("shop", settings, HttpLimits()))  # type: ignore[operator]
    assert " 10.0.0.1:8000" in text
    assert " [fd00::2]:8001" in text
    assert "/_tenfold/ready" in text or "nginx" in text
