"""Page: the one page, and the policy under which a browser shows it.

In:  page.html, which ships with the code. Out: a response.
Holds: the page loads nothing from anywhere; the browser runs the script and the style whose hashes the policy names,
       and nothing that a model may write.
"""

import base64
import hashlib
import re
from pathlib import Path

from starlette.responses import HTMLResponse, Response

_FILE = Path(__file__).with_name("page.html")


def page() -> Response:
    """page.html with its policy."""
    html = _FILE.read_text(encoding="utf-8")
    return HTMLResponse(html, headers={"content-security-policy": policy(html), "x-frame-options": "DENY"})


def policy(html: str) -> str:
    """Content-Security-Policy: this script, this style, this server."""
    allowed = {
        "default-src": "'none'",
        "script-src": _hash_of(html, "script"),
        "style-src": _hash_of(html, "style"),
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


def _hash_of(html: str, element: str) -> str:
    found = re.search(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
    digest = hashlib.sha256((found[1] if found else "").encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
