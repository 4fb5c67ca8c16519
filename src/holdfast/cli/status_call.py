"""How commands speak to a status service that runs."""

from __future__ import annotations

import json
import os
from typing import Any, Final
from urllib.parse import urlsplit

import click

TOKEN_VARIABLE: Final = "HOLDFAST_STATUS_TOKEN"  # noqa: S105 - the name of a variable
_TIMEOUT_S: Final = 10.0

url_option = click.option(
    "--url", default="http://127.0.0.1:8402", show_default=True, metavar="URL", help="Where the service is."
)


def ask(method: str, url: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
    """Ask a service that runs. Raises: `Refused` with what it says."""
    from urllib.error import HTTPError, URLError  # noqa: PLC0415
    from urllib.request import Request, urlopen  # noqa: PLC0415

    from holdfast.base.errors import Refused, Unavailable  # noqa: PLC0415

    if urlsplit(url).scheme not in ("http", "https"):
        raise Refused(f"{url!r} is not an address like http://127.0.0.1:8402.")
    headers = {"Authorization": f"Bearer {os.environ.get(TOKEN_VARIABLE, '')}"}
    data = None if body is None else json.dumps(body).encode()
    request = Request(  # noqa: S310 - the scheme is checked above
        url.rstrip("/") + path, data, headers | {"Content-Type": "application/json"}, method=method
    )
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
            return json.load(answer)
    except HTTPError as error:
        try:
            said = json.load(error)["detail"]
        except (ValueError, KeyError):
            said = str(error)
        raise Refused(said) from None
    except (URLError, TimeoutError) as error:
        raise Unavailable(f"The status service at {url} does not answer: {error}.") from None


def tell_answer(answer: object) -> None:
    """Write an answer as JSON."""
    click.echo(json.dumps(answer, ensure_ascii=False, indent=1))
