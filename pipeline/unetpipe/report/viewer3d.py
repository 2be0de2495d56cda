"""viewer.html: the report's cases in 3-D, by NiiVue, which is not part of unetpipe and is put into the page."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetpipe.errors import UnetpipeError
from unetpipe.files import write_text
from unetpipe.report.pages import embedded, environment

VIEWER = "viewer.html"
_VARIABLE = "UNETPIPE_NIIVUE"
_INSTALLED = Path("node_modules") / "@niivue" / "niivue" / "dist" / "niivue.umd.js"


def find_niivue() -> Path:
    """NiiVue's script: the file that `UNETPIPE_NIIVUE` names, or what `npm install @niivue/niivue` put here.

    Raises:
        UnetpipeError: If it is not there.
    """
    path = Path(os.environ.get(_VARIABLE) or _INSTALLED)
    if not path.is_file():
        raise UnetpipeError(
            f"the 3-D viewer needs NiiVue: run `npm install @niivue/niivue` in this folder, or set {_VARIABLE} to its "
            f"{_INSTALLED.name} (there is no file {path})"
        )
    return path


def write_viewer(path: Path, payload: Mapping[str, Any], niivue: Path) -> None:
    """Write the page with a case in three dimensions.

    Args:
        path: Path of the HTML file.
        payload: The report's: models, classes and views.
        niivue: UMD script of NiiVue.
    """
    data = {key: payload[key] for key in ("models", "classes", "members", "views")}
    script = niivue.read_text(encoding="utf-8").replace("</script", "<\\/script")
    write_text(path, environment().get_template("viewer3d.html").render(data=embedded(data), niivue=script))
