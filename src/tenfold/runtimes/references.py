"""References such as `store.catalog.module:CatalogModule`, and what they name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from tenfold.contracts.errors import TenfoldError, UserMistakeError
from tenfold.runtimes.places import Keys, Origins, nearest, spell

__all__ = ["import_reference"]


def import_reference(reference: str, keys: Keys, origins: Origins, *, root: Path, want: str) -> Any:
    """Import what a reference names.

    Args:
        reference: `package.module:Name`; packages beside the topology file are found.
        keys: where in the file it stands, for errors.
        want: `class` or `callable`.
    Raises: UserMistakeError with the place; its cause is the user's own exception
        where the import itself failed.
    """
    path, colon, name = reference.partition(":")
    if not (colon and name.isidentifier() and all(p.isidentifier() for p in path.split("."))):
        raise origins.mistake(
            keys,
            f"{spell(keys)} is {reference!r}, which is not a reference.",
            "Write it as `package.module:Name`.",
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        module = importlib.import_module(path)
    except TenfoldError as error:
        raise origins.mistake(
            keys, f"{path} declares something that cannot work.", str(error)
        ) from error
    except ModuleNotFoundError as error:
        if error.name is not None and (path == error.name or path.startswith(error.name + ".")):
            raise _no_module(path, error.name, keys, origins) from None
        raise _failed(path, error, keys, origins) from error
    except Exception as error:
        raise _failed(path, error, keys, origins) from error
    if not hasattr(module, name):
        names = [n for n, v in vars(module).items() if not n.startswith("_") and callable(v)]
        raise origins.mistake(
            keys,
            f"{spell(keys)} names {reference!r}, but {path} has no {name!r}.",
            nearest(name, names),
        )
    value = getattr(module, name)
    if want == "class" and not inspect.isclass(value):
        raise origins.mistake(
            keys,
            f"{spell(keys)} names {reference!r}, which is {_a(value)}, not a class.",
            "Name the class that implements the module's contract.",
        )
    if not callable(value):
        raise origins.mistake(
            keys,
            f"{spell(keys)} names {reference!r}, which is {_a(value)} and cannot be called.",
            "Name a function.",
        )
    return value


def _no_module(path: str, missing: str, keys: Keys, origins: Origins) -> UserMistakeError:
    parent, _, last = missing.rpartition(".")
    hint = (
        nearest(last, _siblings(parent))
        if parent
        else (f"Is the package installed, or does it stand beside {origins.file.name}?")
    )
    return origins.mistake(
        keys, f"{spell(keys)} names {path!r}, but there is no {missing!r}.", hint
    )


def _siblings(package: str) -> list[str]:
    import pkgutil

    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    return [module.name for module in pkgutil.iter_modules(places)] if places else []


def _failed(path: str, error: Exception, keys: Keys, origins: Origins) -> UserMistakeError:
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    own = [f for f in frames if "importlib" not in f.filename and f.filename != __file__]
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    if isinstance(error, SyntaxError):
        where = f" ({error.filename}, line {error.lineno})"
    return origins.mistake(
        keys,
        f"{path} could not be imported: {type(error).__name__}: {error}{where}.",
        "Run again with --debug for the traceback.",
    )


def _a(value: Any) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[0].lower() in "aeiou" else f"a {kind}"
