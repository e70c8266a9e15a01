"""A hook of MkDocs: files outside `docs/` that the site shows as pages of its own.

Pages link to these files by their place in the repository, so the links work there and on the site.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {"CHANGELOG.md": "changelog.md", "benchmarks/README.md": "benchmarks.md"}  # file: its page on the site


def on_files(files, config):
    """Add the files outside `docs/` as generated pages."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown, page, config, files):
    """Replace links to those files by links to their pages."""
    folder = posixpath.dirname(page.file.src_uri)

    def to_page(match):
        target = posixpath.normpath(posixpath.join("docs", folder, match[1]))
        return f"]({posixpath.relpath(PAGES[target], folder or '.')}" if target in PAGES else match[0]

    return re.sub(r"\]\(([^)#:]+)", to_page, markdown)
