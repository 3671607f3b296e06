"""Where the project is, how its files are written, and the one kind of error a user can mend.

Every relative path of a parameter means the same whatever the working directory: it starts at the folder
that holds ``pyproject.toml``, looked for upwards from the working directory.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO

import yaml

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # what a disk says that takes no more
# What it says of a place that may not be written to besides; GDAL gives no number
DISK = FULL | {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, None}
LOCKLESS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}  # what a shared disk says that knows no locks
# A process that was forked, to read batches say, outlives by seconds one that is killed, and would keep its locks
_LOCKS: set[IO] = set()
os.register_at_fork(after_in_child=lambda: [lock.close() for lock in _LOCKS])

YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # several times as fast, where there is libyaml
# The library's files as they were when this process began: they may be edited while a queue of runs is at work
SOURCES = {
    file.relative_to(Path(__file__).parent): file.read_bytes()
    for end in ("py", "yml")
    for file in Path(__file__).parent.rglob(f"*.{end}")
}


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one sentence that names it and says what to do."""


def parse_yaml(text: str | bytes) -> object:
    """The content of a YAML text. Raises `yaml.YAMLError` for what is none, and for a key that is given twice, of which
    PyYAML would take the last without a word."""
    loader = YAML(text)
    try:
        node = loader.get_single_node()
        _check_keys(node)
        return node and loader.construct_document(node)
    finally:
        loader.dispose()


def _check_keys(node: yaml.Node | None) -> None:
    """Raise `yaml.YAMLError` for a mapping in a tree that has a key twice; an alias leads to a node that was seen."""
    seen, found = set(), [node]
    for node in found:
        if isinstance(node, yaml.CollectionNode) and id(node) not in seen:
            seen.add(id(node))
            if isinstance(node, yaml.MappingNode):
                keys = [(key.tag, str(key.value)) for key, _ in node.value]
                if twice := [name for (tag, name) in keys if keys.count((tag, name)) > 1]:
                    raise yaml.constructor.ConstructorError(None, None, f"'{twice[0]}' is given twice", node.start_mark)
                found += [part for pair in node.value for part in pair]
            else:
                found += node.value


@contextlib.contextmanager
def told_in_a_sentence(goes_on: str = "") -> Iterator[None]:
    """End a program that was started from a command line in a sentence instead of a traceback: with exit code 2 for an
    `InputError` and for what may not be read or written, with 130 where it is interrupted, with 141 where nobody reads
    any more what it prints. `goes_on` says from where the same command goes on then."""
    try:
        yield
        if sys.stdout:  # none where it was closed
            sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except PermissionError as error:
        if not error.filename:
            raise
        print(f"error: '{error.filename}' may not be read or written: change its permissions.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted" + (f": the same command goes on {goes_on}" if goes_on else ""), file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # of which Python would complain at its end
        sys.exit(141)


def root() -> Path:
    """The nearest folder from the working directory upwards that holds ``pyproject.toml``, else the former."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()), here)


def resolve(path: str | Path) -> Path:
    """An absolute path: ``~`` expanded, and a relative one taken from `root`. `InputError` for a ``~`` of nobody, and
    for what cannot be a path."""
    try:
        found = root() / Path(path).expanduser()
        os.lstat(found)
    except RuntimeError:
        raise InputError(f"'{path}' begins in the home folder of nobody here: write the folder's whole path") from None
    except ValueError:
        raise InputError(f"{str(path)!r} is no path: it holds a character that no name may hold") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            start = str(path)[:60]
            raise InputError(f"the path that begins with '{start}' is too long for this disk: shorten it") from None
    return found


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path` to write a file or a folder at; it takes `path`'s place only if the block succeeds.

    The aside has the same suffix as `path`, since several libraries choose a format by it, and its thread's number,
    since a worker may have begun the same for a build that was interrupted.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    number = threading.get_native_id()
    aside = path.with_name(f".{path.stem}.{number}.part{path.suffix}")
    try:
        yield aside
        if aside.is_dir() and path.is_dir():  # killed in between, it has left no half of either in its place
            old = path.with_name(f".{path.stem}.{number}.old.part{path.suffix}")
            os.replace(path, old)
            os.replace(aside, path)
            shutil.rmtree(old)
        else:
            os.replace(aside, path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # where nothing could be written, nothing is left
                aside.unlink(missing_ok=True)


def write_json(path: str | Path, content: object) -> None:
    """Write a JSON file, whole or not at all."""
    with writing(path) as aside:
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def writable(name: str, path: str | Path) -> Iterator[None]:
    """Turn the error of a disk that is full, or may not be written to, into one that names the parameter."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        why = error.strerror or error
        raise InputError(f"{name} '{path}' cannot be written ({why}): make room, or choose another folder") from error


@contextlib.contextmanager
def alone(path: Path, name: str) -> Iterator[None]:
    """Have a file or folder that is written for this process alone, until the block ends.

    `name` is the parameter to change where another process has it, which `InputError` says at once. The lock is a file
    beside `path`, which may so be moved, and ends with the process, however that ends. A disk that knows no locks has
    none.
    """
    place = path.with_name(f".{path.name}.lock")
    with contextlib.suppress(FileExistsError):  # if it is no folder, opening says so
        place.parent.mkdir(parents=True)
    while True:
        with open(place, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"'{path}' is being written by another process: wait for it, or give another {name}"
                ) from None
            except OSError as error:
                if error.errno not in LOCKLESS:
                    raise
            if not _is_at(place, lock):  # the process that had it has ended just now
                continue
            _LOCKS.add(lock)
            try:
                yield
                return
            finally:
                place.unlink(missing_ok=True)  # while it is locked, so that nobody else's is removed
                _LOCKS.remove(lock)


def _is_at(place: Path, file: IO) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), place.stat())
    return False


def fingerprint(*paths: Path) -> str:
    """SHA-256 over the names and bytes of files, folders taken with everything in them, in sorted order."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            digest.update(str(file.relative_to(path.parent)).encode())
            with open(file, "rb", buffering=0) as stream:
                hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def code_fingerprint(*modules: str) -> str:
    """SHA-256 over what the library's sources do, Python's and YAML's, of the modules or folders named (``"dsd"``),
    else of all; as they were when they were loaded.

    Layout, comments and docstrings do not count, so that explaining better makes no finished run stale; nor does the
    version of Python.
    """
    digest = hashlib.sha256()
    for file, source in sorted(SOURCES.items()):
        if not modules or any(file.is_relative_to(name) or file == Path(f"{name}.py") for name in modules):
            digest.update(f"{file}\n{_read(source, file.suffix)}\n".encode())
    return digest.hexdigest()


@cache
def _read(source: bytes, suffix: str) -> str:
    """What a file says, read once in a process."""
    return _meaning(ast.parse(source)) if suffix == ".py" else str(yaml.load(source, YAML))


def _meaning(node: object) -> str:
    """The text of a syntax tree: lists, without docstrings and what is not there, of which each Python has its own."""
    if isinstance(node, ast.AST):
        members = [repr(type(node).__name__)]
        for name in node._fields:
            value = getattr(node, name, None)
            if value is not None and value != []:
                members.append(f"({name!r}, {_meaning(value)})")
    elif isinstance(node, list):
        members = [_meaning(member) for member in node if not _is_docstring(member)]
    else:
        return repr(repr(node))
    return f"[{', '.join(members)}]"


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
