"""What the panel's forms ask for. These routes exist in development only."""

from __future__ import annotations

from typing import Any

from litestar import Response, post
from litestar.response import Redirect

from holdfast.web import render, trouble
from holdfast.web.context import Call, app_of, language_of, own_form


@post("/providers/{provider:str}", guards=[own_form])
async def change(request: Call, provider: str) -> Response[Any]:
    """Break or mend a provider (`mend`: all of them); then show the panel, or the page that the form was on.

    Raises: `SandboxAway`, `TroubleUnknown`.
    """
    form = await request.form()
    back = _back(str(form.get("back", "/")))
    async with trouble.sandbox(app_of(request).config.sandbox_base_url) as control:
        if provider == "mend":
            await control.mend()
        else:
            await control.set(provider, str(form.get("trouble", "")))
        if request.headers.get("x-part") != "providers":
            return Redirect(back, status_code=303)
        language = language_of(request)
        shown = await trouble.panel(control, back, language)
    return render.page("providers.html", language, panel=shown)


def _back(path: str) -> str:
    """Return a path of this very server, whatever was sent."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if plain else "/"
