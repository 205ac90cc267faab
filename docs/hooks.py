"""What the site shows beside docs/: tables and figures in git, and pages of the top folder, where they are."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: Any) -> None:
    pages = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
    results = [*ROOT.glob("results/*desk/tables/*.md"), *ROOT.glob("results/*desk/figures/*.svg")]
    for path in [*pages, *sorted(results)]:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links are those of the checkout, as GitHub follows them; on the site docs/ is the top."""
    if page.file.src_uri == "errors.md":
        return markdown.replace("][", "]\\[")  # patterns in messages, which autorefs takes for references
    return markdown.replace("](../", "](").replace("](docs/", "](")
