"""The folder that predictions are written to: what lies where, and what an earlier run has not done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jittor_pranet.reports.overlay import overlay
from utils import shallow_json
from utils.data.image_io import read_rgb, write_map
from utils.data.inputs import Inputs, Source
from utils.errors import BadFile, UserError
from utils.files import atomic_write
from utils.metrics.regions import find_regions

MAPS, MASKS, OVERLAYS, VIDEOS = FOLDERS = "maps", "masks", "overlays", "videos"
TABLE, SETTINGS_FILE = "predictions.csv", "settings.json"
OUTPUTS = (*FOLDERS, TABLE, SETTINGS_FILE)
REGION_COLUMNS = ["area_px", "area_percent", "components", "confidence", "highest", "boxes"]
COLUMNS = ["output", "file", "width", "height", "frames", *REGION_COLUMNS]
MAX_BOXES = 100  # of the largest components: a cell has to end somewhere


@dataclass(frozen=True)
class Plan:
    """Where predictions go, and how they are made."""

    out: Path
    threshold: float
    minmax: bool
    batch: int
    workers: int


def check_settings(out: Path, settings: dict) -> None:
    """Raises UserError if ``out`` holds results made with others, or results that are not of this program."""
    path = out / SETTINGS_FILE
    if not path.exists():
        there = [f"{folder}/" for folder in FOLDERS if (out / folder).exists()]
        if there:
            raise UserError(f"{out}: holds {', '.join(there)} but no {SETTINGS_FILE} of an earlier run; "
                            "choose another --out, or write over them with --overwrite")
        return
    try:
        earlier = dict(shallow_json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); choose another --out, or begin anew with "
                        "--overwrite") from error
    different = [f"{name} {earlier.get(name)}, now {value}" for name, value in settings.items()
                 if earlier.get(name) != value]
    if different:
        raise UserError(f"{out}: holds predictions with {'; '.join(different)}; choose another --out, or "
                        "begin anew with --overwrite")


def write_settings(out: Path, settings: dict) -> None:
    with atomic_write(out / SETTINGS_FILE) as file:
        file.write(json.dumps(settings, indent=1).encode() + b"\n")


def is_complete(out: Path, row: list[str]) -> bool:
    """Whether the files that a row of the table tells of are still there."""
    output = Path(row[0])
    if output.suffix == ".png":
        return all((out / folder / output).exists() for folder in (MAPS, MASKS, OVERLAYS))
    return (out / output).exists() and (out / output).with_suffix(".csv").exists()


def pending(inputs: Inputs, rows: dict[str, list[str]], out: Path) -> list[Source]:
    """The sources without a row; one whose row is that of another file is added to the defects."""
    sources = []
    for source in inputs.sources:
        names = [f"{VIDEOS}/{source.name}{suffix}" for suffix in (".mp4", ".mkv")]
        names = names if source.is_video else [f"{source.name}.png"]
        row = next((rows[name] for name in names if name in rows), None)
        if row is None:
            sources.append(source)
        elif row[1] != str(source.path):
            inputs.defects.append(f"{source.path}: {out} holds {row[0]} of {row[1]} already; choose another "
                                  "--out")
    return sources


def write_image(job: tuple[Source, np.ndarray | UserError], plan: Plan) -> tuple[Source, list | UserError]:
    """Writes what belongs to a map, float32 (H, W), and gives the row of the table; a defect is handed on.

    Raises:
        UserError: a file cannot be written.
    """
    source, values = job
    try:
        picture = None if isinstance(values, UserError) else np.asarray(read_rgb(source.path))
    except UserError as error:
        values = error
    if isinstance(values, UserError):
        return source, values
    if picture.shape[:2] != values.shape:
        return source, BadFile(f"{source.path}: has changed while it was predicted; leave it and run again")
    name, mask = f"{source.name}.png", np.uint8(255) * (values > plan.threshold)
    for folder, pixels in ((MAPS, (values * 255).astype(np.uint8)), (MASKS, mask),
                           (OVERLAYS, overlay(picture, mask))):
        write_map(plan.out / folder / name, pixels)
    height, width = values.shape
    return source, [name, source.path, width, height, 1, *region_cells(values, plan.threshold)]


def region_cells(values: np.ndarray, threshold: float) -> list[str]:
    """The cells below `REGION_COLUMNS` of a map, float32 (H, W)."""
    regions = find_regions(values, threshold)
    boxes = "; ".join(" ".join(map(str, box)) for box in regions.boxes[:MAX_BOXES])
    confidence = "" if regions.confidence is None else f"{regions.confidence:.4f}"
    return [str(regions.area), f"{regions.percent:.3f}", str(len(regions.boxes)), confidence,
            f"{regions.highest:.4f}", boxes]
