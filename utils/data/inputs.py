"""What a program is to work on, by files, folders, globs and lists, and what its outputs are called."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from utils.data.image_io import IMAGE_SUFFIXES, list_folder, read_list
from utils.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ts")
LIST_SUFFIX = ".txt"


@dataclass(frozen=True)
class Source:
    """An image or video, and what its outputs are called below their folder, without suffix."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_SUFFIXES


@dataclass
class Inputs:
    """Sources in order, the defects of others, and files of folders that are neither image nor video."""

    sources: list[Source] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)


def find_inputs(texts: list[str], out: Path) -> Inputs:
    """All images and videos that the words of a command line name.

    A folder is searched with all below it, hidden files and the folder ``out`` left out, and its files are
    named after their place in it. A glob counts as the folder before its first wildcard. A list (.txt) holds
    a path in each line, relative to the list; empty lines and those with # in front are passed over. Others
    are named after their stems.

    Raises:
        UserError: a word names nothing that is there, or nothing is found at all.
    """
    inputs = Inputs()
    taken: dict[tuple[str, bool], Path] = {}
    for path, base in (pair for text in texts for pair in _expand(text, out, inputs.defects)):
        if path.suffix.lower() not in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) and base is not None:
            inputs.others.append(path)
            continue
        source = Source(Path(os.path.abspath(path)), _name(path, base))
        earlier = taken.setdefault((source.name, source.is_video), source.path)
        if earlier != source.path:
            inputs.defects.append(f"{path}: its outputs would be called as those of {earlier}; rename one, "
                                  "or give the folder that holds both folders")
        elif len(taken) > len(inputs.sources):
            inputs.sources.append(source)
    if not inputs.sources and not inputs.defects:
        raise UserError(f"{' '.join(texts)}: no image or video is there (looked for "
                        f"{' '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))})")
    return inputs


def _name(path: Path, base: Path | None) -> str:
    inside = Path(path.name) if base is None else path.relative_to(base)
    # A name must not lead out of the output folder.
    return str((Path(path.name) if ".." in inside.parts else inside).with_suffix(""))


def _expand(text: str, out: Path, defects: list[str]) -> Iterator[tuple[Path, Path | None]]:
    """Files that a word names, each with the folder that its outputs are named from; None: its own."""
    path = Path(text)
    if path.is_dir():
        yield from ((file, path) for file in _walk(path, out, defects))
    elif os.path.lexists(path):
        if path.suffix.lower() == LIST_SUFFIX:
            yield from ((path.parent / line, None) for line in read_list(path))
        else:
            yield path, None
    elif glob.has_magic(text):
        base = Path(re.split(r"[*?\[]", text, maxsplit=1)[0] + "x").parent
        matches = sorted(map(Path, glob.glob(text, recursive=True)))
        if not matches:
            raise UserError(f"{text}: matches no file")
        for match in matches:
            files = _walk(match, out, defects) if match.is_dir() else [match]
            yield from ((file, base) for file in files)
    else:
        raise UserError(f"{text}: no such file or folder")


def _walk(folder: Path, out: Path, defects: list[str]) -> Iterator[Path]:
    """All files below ``folder`` in the order of their paths, links to folders followed once."""
    seen = {os.path.realpath(out)}
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        if os.path.realpath(current) in seen:
            continue
        seen.add(os.path.realpath(current))
        try:
            inside = list_folder(current)
        except UserError as error:
            defects.append(str(error))
            continue
        yield from (path for path in inside if not path.is_dir())
        waiting += reversed([path for path in inside if path.is_dir()])
