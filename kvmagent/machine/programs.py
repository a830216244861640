"""Where a machine's programs are: looked up in the machine's own file tree, never in another's."""

from __future__ import annotations

from kvmagent.machine.tree import Tree

PLACES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")


def find_program(tree: Tree, *names: str) -> str | None:
    """Return the path of the first of `names` that the machine has, None when it has none of them."""
    paths = (f"{place}/{name}" for name in names for place in PLACES)
    return next((path for path in paths if tree.exists(path) and not tree.is_dir(path)), None)


def below_root(tree: Tree, path: str) -> str:
    """Return where the machine's `path` is for this process: a machine below a root has its own programs."""
    return path if tree.live else tree.root + (tree.resolve(path) or path)
