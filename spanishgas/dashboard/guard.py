"""Who may see customers: everybody on this machine, elsewhere only those who have logged in.

Streamlit's own OpenID Connect login is used where `[auth]` in .streamlit/secrets.toml configures it; then it is asked
for on this machine too. Without it, a page opened from elsewhere shows no customer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import streamlit as st

FORWARDED = ("X-Forwarded-For", "X-Forwarded-Host", "Forwarded")
REFUSED = (
    "Customers are shown on this machine alone (address 127.0.0.1, opened as localhost) until a login is configured: "
    "see docs/dashboard.md."
)


def loopback(host: str) -> bool:
    """Whether a host, with or without a port, is this machine's own."""
    name = host.strip().casefold()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.rpartition(":")[0] or name
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def local(address: str | None, headers: Mapping[str, str]) -> bool:
    """Whether the server listens on this machine alone and the page was opened here, not by way of a proxy."""
    if address is None or not (address == "localhost" or loopback(f"[{address}]")):
        return False
    host = headers.get("Host")
    return not any(name in headers for name in FORWARDED) and (host is None or loopback(host))


def admitted() -> bool:
    """Whether this session may see customers; if not, the page says why, or offers to log in."""
    if "is_logged_in" in st.user:
        if st.user["is_logged_in"]:
            return True
        st.info("Log in to see customers.")
        st.button("Log in", on_click=st.login)
        return False
    if local(st.get_option("server.address"), st.context.headers):
        return True
    st.error(REFUSED)
    return False
