"""nginx as the caching edge: it keeps the media in blocks on its disk, and serves them and their ranges.

Who may look, and where a file lies, it asks the embedded edge (edge.py), which stands behind it as its gate: so authorisation,
takedown and what a client is refused are one code for both. The gate also fetches the blocks that nginx has not got, and keeps
hardly any itself; no presigned URL and no token gets to nginx's disk.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from reference_impl.embedded import NotInstalled, unprivileged_account
from reference_impl.processes import Child, start, wait_for_port
from reference_impl.settings import Settings

NGINX = "nginx"
PLACES = ("/usr/sbin", "/usr/local/sbin")
"""Beside the path, which has them for root only on some systems."""
GATE_CACHE_BYTES = 8 * 2**20
"""A little: for those who ask for a block at once, and for ranges that nginx does not take."""
MODULES = ("http_slice_module", "http_auth_request_module")
CONFIGURATION = """
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    server_tokens off;
    sendfile on;
    client_header_timeout {within_s}s;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    proxy_cache_path {home}/cache levels=1:2 keys_zone=media:8m max_size={cache_bytes} inactive=30d use_temp_path=off;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    recursive_error_pages on;
    upstream gate {{ server {gate}; keepalive 16; }}
    # Whatever else is asked the gate answers, so that it is answered in one way by every edge.
    map "$request_method $http_range" $for_gate {{
        "~^(GET|HEAD) (bytes=([0-9]+-[0-9]*|-[0-9]+))?$" 0;
        default 1;
    }}
    server {{
        listen {listen};
        default_type application/json;
        error_page 502 504 = @down;
        location / {{ proxy_pass http://gate; }}
        location ~ "^/v1/media/[0-9]+$" {{
            if ($for_gate) {{ return 418; }}
            auth_request /gate;
            auth_request_set $media_etag $upstream_http_etag;
            error_page 418 = @gate;
            error_page 401 403 500 = @refused;  # in the gate's own words; its 404 is a 500 to auth_request
            slice {block_bytes};
            proxy_cache media;
            proxy_cache_key $uri$media_etag$slice_range;
            proxy_cache_lock on;
            proxy_cache_valid 206 365d;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header Range $slice_range;
            proxy_pass http://gate;
        }}
        location = /gate {{
            internal;
            proxy_method HEAD;
            proxy_pass_request_body off;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
            proxy_set_header Range "";
            proxy_set_header If-None-Match "";
            proxy_pass http://gate$request_uri;
        }}
        location @gate {{ proxy_pass http://gate; }}
        location @refused {{
            proxy_hide_header WWW-Authenticate;  # which auth_request has copied already
            proxy_pass http://gate;
        }}
        location @down {{ return 503 '{{"error":"the origin does not answer; try again"}}'; }}
    }}
}}
"""


@functools.cache
def program() -> str:
    """The path of an nginx that has what this takes.

    Raises:
        NotInstalled.
    """
    found = shutil.which(NGINX, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *PLACES)))
    if found is None:
        raise NotInstalled("nginx is not installed; FLASHCROWD_EDGE=embedded does without it")
    built = subprocess.run([found, "-V"], capture_output=True, text=True).stderr
    if missing := [module for module in MODULES if module not in built]:
        raise NotInstalled(f"{found} was built without {' and '.join(missing)}; FLASHCROWD_EDGE=embedded does without it")
    return found


def is_installed() -> bool:
    """Whether there is a :func:`program`."""
    try:
        return bool(program())
    except NotInstalled:
        return False


def start_nginx(scratch: Path, state_dir: Path, settings: Settings) -> Child:
    """Start nginx at ``edge_port`` before the gate at ``edge_gate_port``; its files are in ``scratch``.

    Raises:
        NotInstalled, StartFailed.
    """
    # Here, since its imports take a while: who starts things would wait for them.
    from reference_impl.uploads.edge import BLOCK_BYTES

    home, account = scratch / NGINX, unprivileged_account()
    home.mkdir(mode=0o700)
    configuration = home / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(
            home=home,
            listen=f"{settings.api_host}:{settings.edge_port}",
            gate=f"{settings.api_host}:{settings.edge_gate_port}",
            within_s=max(1, round(settings.request_within_s)),
            cache_bytes=settings.edge_cache_bytes,
            block_bytes=BLOCK_BYTES,
        )
    )
    if account:
        for path in (home, configuration):
            shutil.chown(path, account, pwd.getpwnam(account).pw_gid)
    command: list[str | Path] = [program(), "-p", home, "-c", configuration]
    child = start(NGINX, NGINX, command, state_dir / "nginx.log", directory=home, account=account)
    wait_for_port(settings.edge_port, child)
    return child
