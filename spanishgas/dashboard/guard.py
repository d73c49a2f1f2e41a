"""Who may see customers: whoever has the address that the command prints on this machine, or has logged in.

No header and no address proves that a page is opened here: a proxy on this machine rewrites the one and hides the
other. So the printed address holds a key, which counts where the server listens on this machine alone. Streamlit's own
OpenID Connect login is used where `[auth]` in .streamlit/secrets.toml configures it; then it is asked for here too.
"""

from __future__ import annotations

import hmac
import ipaddress
import os

import streamlit as st

KEY = "SPANISHGAS_DASHBOARD_KEY"
"""In the environment: the key of this start. Without one, as under `streamlit run`, only a login shows customers."""
PARAMETER = "key"
REFUSED = (
    "Customers are shown at the address with a key that `spanishgas dashboard` prints on this machine, or after a "
    "login: see docs/dashboard.md."
)


def loopback(address: str | None) -> bool:
    """Whether an address, without a port, is this machine's own."""
    try:
        return address == "localhost" or ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


def local(listens: str | None, peer: str | None, key: str | None) -> bool:
    """Whether the server listens on this machine alone, the peer's socket is here, and the page has this start's key.

    `peer` is None for this machine, as Streamlit has it.
    """
    right = os.environ.get(KEY, "")
    alike = hmac.compare_digest(right.encode(), (key or "").encode(errors="replace"))
    return bool(right) and alike and loopback(listens) and (peer is None or loopback(peer))


def admitted() -> bool:
    """Whether this session may see customers; if not, the page says why, or offers to log in."""
    if "is_logged_in" in st.user:
        if st.user["is_logged_in"]:
            return True
        st.info("Log in to see customers.")
        st.button("Log in", on_click=st.login)
        return False
    if local(st.get_option("server.address"), st.context.ip_address, st.session_state.get(PARAMETER)):
        return True
    st.error(REFUSED)
    return False


def keep_key() -> None:
    """Keep the key of the address, in the session for other pages and in their addresses for when they are reloaded."""
    if key := st.query_params.get(PARAMETER) or st.session_state.get(PARAMETER):
        st.session_state[PARAMETER] = st.query_params[PARAMETER] = key
