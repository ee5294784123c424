"""HAProxy in front of a product: a whole configuration file, for HAProxy 2.4 or later."""

from __future__ import annotations

from tenfold.runtimes.balancers.plan import BalancerPlan

__all__ = ["render_haproxy"]

_FILE = """\
# HAProxy for {name}, written by `tenfold export haproxy`: change the topology file, and write it
# anew. Check it with `haproxy -c -f FILE`.

global
    maxconn {connections}
    log stdout format raw local0
    # A request's head must fit into half of it, and what is sent twice into the whole.
    tune.bufsize {buffer}

defaults
    mode http
    log global
    option httplog
    option dontlognull
    timeout connect {connect}
    timeout client {answer}
    timeout server {answer}
    timeout queue {connect}
    timeout http-request {head}
    timeout http-keep-alive {caller_kept}

frontend callers
    bind {listen}
    # What a caller says of itself here is not believed.
    http-request del-header X-Forwarded-For
    http-request set-header X-Forwarded-Proto http
    option forwardfor
    unique-id-format %{{+X}}o%ci%cp%fi%fp%Ts%rt%pid
    unique-id-header X-Request-Id
    http-request deny deny_status 413 if {{ req.hdr_val(content-length) gt {body_bytes} }}
    default_backend tenfold

backend tenfold
    balance leastconn
    option httpchk
    http-check send meth GET uri {check_path} ver HTTP/1.1 hdr Host localhost hdr Connection close
    http-check expect status 200

    # To another server goes what was not sent yet, and what may be sent twice: what only reads,
    # and what carries a key by which the product knows it again. Only once: retries multiply load.
    retries 2
    option redispatch 1
    retry-on conn-failure empty-response
    acl reads method GET HEAD OPTIONS
    acl keyed req.fhdr(idempotency-key) -m found
    http-request disable-l7-retry unless reads || keyed

    # Connections that rest are kept for less long than the product keeps them: a request that
    # meets a connection's end is lost.
    http-reuse safe
    default-server check inter {check} fall {fall} rise {rise}
    default-server pool-purge-delay {kept} pool-low-conn 0 maxconn {connections}
{servers}
"""


def render_haproxy(plan: BalancerPlan) -> str:
    """The text of the configuration file."""
    servers = [f"    server server-{n + 1} {a}" for n, a in enumerate(plan.servers)]
    return _FILE.format(
        name=plan.name,
        connections=plan.max_connections,
        buffer=max(16_384, 2 * plan.head_bytes),
        connect=_time(plan.connect_s),
        answer=_time(plan.answer_s),
        head=_time(plan.head_s),
        caller_kept=_time(plan.caller_kept_s),
        listen=plan.listen,
        body_bytes=plan.body_bytes,
        check_path=plan.check_path,
        check=_time(plan.check_s),
        fall=plan.fall,
        rise=plan.rise,
        kept=_time(plan.kept_s / 2),
        servers="\n".join(servers),
    )


def _time(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
