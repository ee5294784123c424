"""nginx in front of a product: a whole configuration file, for nginx 1.19.10 or later."""

from __future__ import annotations

import math

from tenfold.runtimes.balancers.plan import BalancerPlan

__all__ = ["render_nginx"]

_FILE = """\
# nginx for {name}, written by `tenfold export nginx`: change the topology file, and write it anew.
# Check it with `nginx -t -c FILE`. nginx has no health checks of its own in this edition: a server
# that fails is left out for {check_s}, and what was not sent to it yet goes to another.

worker_processes auto;
pid {run_dir}/nginx.pid;
error_log stderr error;

events {{
    worker_connections {connections};
}}

http {{
    access_log {access_log};
    server_tokens off;
    client_body_temp_path {run_dir}/nginx-body;
    proxy_temp_path {run_dir}/nginx-proxy;
    fastcgi_temp_path {run_dir}/nginx-fastcgi;
    uwsgi_temp_path {run_dir}/nginx-uwsgi;
    scgi_temp_path {run_dir}/nginx-scgi;

    upstream tenfold {{
        least_conn;
{servers}
        # Shorter than the product keeps them: a request that meets a connection's end is lost.
        keepalive 64;
        keepalive_timeout {kept};
    }}

    server {{
        listen {listen};

        # The product's own bounds, or a little more where its answer says more than nginx's would.
        client_max_body_size {body_bytes};
        client_header_timeout {head_s};
        client_body_timeout {body_s};
        large_client_header_buffers 4 {head_bytes};
        keepalive_timeout {caller_kept};

        location / {{
            proxy_pass http://tenfold;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            # What a caller says of itself here is not believed.
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Request-Id $request_id;

            proxy_connect_timeout {connect};
            proxy_send_timeout {body_s};
            proxy_read_timeout {answer};

            # To another server goes what was not sent yet, and what may be sent twice: nginx never
            # repeats POST and PATCH. Only once, and not after a long wait: retries multiply load.
            proxy_next_upstream error timeout;
            proxy_next_upstream_tries 2;
            proxy_next_upstream_timeout {retry_within};

            # Answers without an end, such as server-sent events, pass on as they come.
            proxy_buffering off;
        }}
    }}
}}
"""


def render_nginx(
    plan: BalancerPlan, *, run_dir: str = "/tmp", access_log: str = "/dev/stdout"
) -> str:
    """The text of the configuration file.

    Args:
        run_dir: where nginx may write its process id and what it cannot keep in memory.
        access_log: a file, or `off`.
    """
    server = "        server {} max_fails=2 fail_timeout={};"
    check = f"{math.ceil(plan.check_s)}s"  # which nginx reads in whole seconds alone
    return _FILE.format(
        name=plan.name,
        run_dir=run_dir,
        access_log=access_log,
        connections=plan.max_connections,
        servers="\n".join(server.format(address, check) for address in plan.servers),
        listen=plan.listen,
        check_s=check,
        kept=_time(plan.kept_s),
        head_s=_time(plan.head_s),
        body_s=_time(plan.body_s),
        caller_kept=_time(plan.caller_kept_s),
        connect=_time(plan.connect_s),
        answer=_time(plan.answer_s),
        retry_within=_time(2 * plan.connect_s + 1),
        head_bytes=plan.head_bytes,
        body_bytes=plan.body_bytes,
    )


def _time(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
