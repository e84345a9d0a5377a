"""The pages of the Python interface, made from the package when the documentation is built: one for each room."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from pathlib import Path

import clipmused_bids

# From the bottom of docs/architecture.md to its top; a room that is not named here comes last.
ORDER = (
    "errors", "records", "config", "dataset", "responses", "targets", "decoder", "evaluation", "training", "methods",
    "report", "stages", "simulation", "preflight", "cli",
)  # fmt: skip

INTRODUCTION = """# Python interface

The command is the supported interface. Modules of `responses`, `targets`, `decoder`, `training`, `methods` and
`evaluation` take and return arrays and can be used by themselves; `dataset` reads and writes files; `stages` joins both
([architecture](../architecture.md)). Errors are children of `clipmused_bids.errors.ClipMusedError`.

These pages are made from the docstrings, from the lowest room to the highest.

```{toctree}
:maxdepth: 1

"""


def write_pages(folder: Path) -> None:
    """Write ``index.md`` and a page for each room; unchanged pages are left alone, others are deleted."""
    found = pages()
    rooms = sorted(found, key=lambda room: (ORDER.index(room) if room in ORDER else len(ORDER), room))
    texts = {f"{room}.md": page(room, modules) for room, modules in found.items()}
    texts["index.md"] = INTRODUCTION + "\n".join(rooms) + "\n```\n"
    folder.mkdir(exist_ok=True)
    for stray in set(folder.glob("*.md")) - {folder / name for name in texts}:
        stray.unlink()
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def pages() -> dict[str, list[str]]:
    """Modules of each room by their full names: the room itself, its modules, then its packages with theirs."""
    found: dict[str, list[str]] = {}
    for name in _modules(clipmused_bids.__path__, "clipmused_bids."):
        found.setdefault(name.split(".")[1], []).append(name)
    return found


def _modules(path: list[str], prefix: str) -> Iterator[str]:
    inner = sorted(pkgutil.iter_modules(path), key=lambda module: (module.ispkg, module.name))
    for module in inner:
        if module.name == "__main__":
            # Runs a command when it is imported.
            continue
        yield prefix + module.name
        if module.ispkg:
            yield from _modules([f"{path[0]}/{module.name}"], f"{prefix}{module.name}.")


def page(room: str, modules: list[str]) -> str:
    """Text of one page: the room's docstring, then a heading for each package and module."""
    prefix = f"clipmused_bids.{room}"
    parts = [f"# {room}"]
    for name in modules:
        inside = name.removeprefix(f"{prefix}.")
        if name != prefix:
            parts.append("#" * (2 + inside.count(".")) + f" {inside}")
        # What a package hands on is documented where it is written.
        parts.append(f"```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :ignore-module-all:\n```")
    return "\n\n".join(parts) + "\n"
