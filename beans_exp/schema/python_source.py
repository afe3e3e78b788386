"""Python modules found and read without being imported: a model's module may take seconds to import, or fail."""

import ast
import hashlib
import importlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from beans_exp.errors import ConfigError

_folder: Path | None = None
"""The folder of the command line's `--config-dir`, whose modules describe models of the user's own."""


def use_folder(folder: Path | None) -> None:
    """Put `folder` in front of Python's path, in place of the folder of an earlier command in this process."""
    global _folder
    if _folder is not None and str(_folder) in sys.path:
        sys.path.remove(str(_folder))
    _folder = folder.resolve() if folder else None
    if _folder is not None:
        sys.path.insert(0, str(_folder))
        importlib.invalidate_caches()


def user_folder() -> Path | None:
    """Return the folder that `use_folder` put on the path."""
    return _folder


def find_module(name: str) -> Path | None:
    """Return the source file of the module that `import name` would import; None without one."""
    path, origin, full = None, None, ""
    for part in name.split("."):
        full = f"{full}.{part}".lstrip(".")
        finders = (finder for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((found for finder in finders if (found := finder.find_spec(full, path))), None)
        if spec is None:
            return None
        path, origin = spec.submodule_search_locations, spec.origin
    return Path(origin) if origin and origin.endswith(".py") else None


def find_function(build: str) -> tuple[Path, ast.FunctionDef]:
    """Return the file and the definition of the function `build`, such as `my_nets.leafnet`; raises ConfigError."""
    module, _, name = build.rpartition(".")
    file = find_module(module) if module and all(part.isidentifier() for part in build.split(".")) else None
    if file is None:
        where = f"in {_folder}, the --config-dir, or installed" if _folder else "installed, or in a --config-dir"
        raise ConfigError(f"model.build={build}: must be MODULE.FUNCTION, with a module that is {where}")
    tree = parsed(file, build)
    found = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name), None)
    if found is None:
        raise ConfigError(f"model.build={build}: must be a function, and {file} defines none of the name {name}")
    return file, found


def parsed(file: Path, build: str) -> ast.Module:
    """Return the syntax tree of `file`; raises ConfigError, naming the line, if it has none."""
    try:
        facts = file.stat()
        return _parsed(file, facts.st_mtime_ns, facts.st_size)
    except SyntaxError as error:
        raise ConfigError(f"model.build={build}: {file}, line {error.lineno}: {error.msg}. Correct the file") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.build={build}: {file} cannot be read ({error})") from error


@lru_cache
def _parsed(file: Path, changed_ns: int, size: int) -> ast.Module:
    """The tree of `file`, cached until the file changes, because a sweep needs it for each of its points."""
    return ast.parse(file.read_bytes())


def source_digest(build: str) -> str:
    """Return 16 hex digits that identify the code of `build`: its module, and what that imports from the same folder.

    The folder is that of the command line, or the package of an installed module.
    """
    module = build.rpartition(".")[0]
    file, _ = find_function(build)
    in_folder = _folder is not None and file.is_relative_to(_folder)
    folder = _folder if in_folder else find_module(module.split(".")[0])
    assert folder is not None
    root = folder.parent if folder.name == "__init__.py" else folder
    files: dict[str, Path] = {}
    _collect(module, root, build, files)
    content = "".join(f"{name} {hashlib.sha256(files[name].read_bytes()).hexdigest()}\n" for name in sorted(files))
    return hashlib.sha256(f"{build}\n{content}".encode()).hexdigest()[:16]


def _collect(module: str, root: Path, build: str, files: dict[str, Path]) -> None:
    """Add `module`, its packages and what they import to `files`, as far as they lie in `root`."""
    for name in _with_packages(module):
        file = find_module(name) if name not in files else None
        if file is not None and file.is_relative_to(root):
            files[name] = file
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            for imported in _imports(parsed(file, build), package):
                _collect(imported, root, build, files)


def _with_packages(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the names that `tree`, a module of `package`, imports; some may be no modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names if base)
