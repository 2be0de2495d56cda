"""Pages of the site that lie elsewhere or in another form: the notebooks, and pages of the repository's root.

mkdocs calls the hooks below. In the repository every link leads to a file as it lies there; here they are turned to the
site's pages.
"""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
_FROM_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_ELSEWHERE = "https://github.com/unetpipe/unetpipe/blob/main/"  # what is no page of the site


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages; a notebook can be downloaded as well."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        text = markdown_of(json.loads(Path(notebook.abs_src_path or "").read_text(encoding="utf-8")))
        name = Path(notebook.src_uri).name
        text += f"\n[Download this page as a notebook]({name}){{: download={name} }}\n"
        files.append(File.generated(config, notebook.src_uri.replace(".ipynb", ".md"), content=text))
    for source, page in _FROM_ROOT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = re.sub(r"\]\((?!https?:|docs/|#)([^)]+)\)", rf"]({_ELSEWHERE}\1)", text)
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead links to notebooks to their pages, and links out of the docs to the repository."""
    markdown = re.sub(r"\]\(((?!https?:)[^)]+)\.ipynb\)(?!\{)", r"](\1.md)", markdown)
    for source, target in _FROM_ROOT.items():
        markdown = markdown.replace(f"](../{source})", f"]({target})")
    return re.sub(r"\]\(\.\./([^)]+)\)", rf"]({_ELSEWHERE}\1)", markdown) if "/" not in page.file.src_uri else markdown


def markdown_of(notebook: dict[str, Any]) -> str:
    """A notebook as a page: text as it is, code in blocks, what the code printed or drew below it."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = "".join(output.get("text", data.get("text/plain", "")))
            if "image/png" in data:
                parts.append(f"![](data:image/png;base64,{''.join(data['image/png']).replace(chr(10), '')})")
            elif text.strip():
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
