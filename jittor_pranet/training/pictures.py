"""The pictures of a run, drawn with Pillow: its curves, and maps of a few images beside their masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jittor_pranet.reports.scales import COLOURS, SKY, VERMILION, Colour, ticks
from jittor_pranet.training.validation import Sample
from utils.data.image_io import read_rgb
from utils.data.scans import PALETTE
from utils.files import atomic_write

PANEL, MARGIN = (800, 280), (64, 44, 24, 36)  # a chart's size; left, top, right, bottom around its frame
INK, GRID, BACKGROUND = (40, 40, 40), (225, 225, 225), (255, 255, 255)
HIT, FALSE, MISSED = (255, 255, 255), VERMILION, SKY
MAX_STEPS = 7  # between the marks of an axis
TILE = 176  # side of a sample's pictures

Points = list[tuple[float, float]]


def write_curves(path: Path, steps: list[dict], epochs: list[dict], losses: list[str],
                 scores: tuple[str, ...] = ()) -> None:
    """Draws the losses by step and, where they were measured, mDice and other scores by epoch.

    Args:
        steps, epochs: the rows of log.csv and epochs.csv.
        losses, scores: their columns to draw.
    """
    charts = [_smooth_chart("losses", {name: _measured(steps, name) for name in losses})]
    dice = {label: points for label, column in (("weights", "val_mDice"), ("average", "ema_mDice"))
            if (points := _measured(epochs, column))}
    if dice:
        best = max(value for points in dice.values() for _, value in points)
        charts.append(_chart(f"validation mDice, best {100 * best:.2f}", dice, marks=True))
    classes = {name.removeprefix("val_dice"): points for name in scores
               if (points := _measured(epochs, name))}
    if classes:
        colours = {name: tuple(PALETTE[int(name)].tolist()) for name in classes}
        charts.append(_chart("validation Dice of each class", classes, marks=True, colours=colours))
    _write(path, np.concatenate([np.asarray(chart) for chart in charts]))


def write_chart(path: Path, title: str, lines: dict[str, Points]) -> None:
    """Draws values of every step."""
    _write(path, np.asarray(_smooth_chart(title, lines)))


def _measured(epochs: list[dict], column: str) -> Points:
    return [(row["step"], row[column]) for row in epochs if row.get(column) is not None]


def write_samples(path: Path, samples: list[Sample], title: str) -> None:
    """Draws one row for each sample: image, map, mask, and where the two differ at mid-grey."""
    heading = Image.new("RGB", (4 * TILE, 40), BACKGROUND)
    draw, font = ImageDraw.Draw(heading), _font(13)
    draw.text((6, 3), title, INK, font)
    for column, name in enumerate(("image", "map", "mask", "")):
        draw.text((column * TILE + 6, 22), name, INK, font)
    for column, (name, colour) in enumerate((("too much", FALSE), ("missed", MISSED))):
        draw.text((3 * TILE + 6 + 70 * column, 22), name, colour, font)
    rows = [np.asarray(heading)]
    for sample in samples:
        tiles = (np.asarray(read_rgb(sample.pair.image)), sample.levels, sample.mask.astype(np.uint8) * 255,
                 _error(sample.levels >= 128, sample.mask))
        rows.append(np.concatenate([_tile(tile) for tile in tiles], axis=1))
    _write(path, np.concatenate(rows))


def write_label_samples(path: Path, samples: list[tuple[np.ndarray, np.ndarray, np.ndarray]], title: str,
                        ) -> None:
    """Draws one row for each slice: image (C,H,W) in [0,1], the predicted labels and the true ones (H,W)."""
    heading = Image.new("RGB", (3 * TILE, 60), BACKGROUND)
    draw, font = ImageDraw.Draw(heading), _font(13)
    draw.text((6, 3), title, INK, font)
    classes = sorted({label for _, *maps in samples for each in maps for label in np.unique(each)} - {0})
    for place, label in enumerate(classes):
        draw.text((6 + 28 * place, 22), str(label), tuple(PALETTE[label].tolist()), font)
    for column, name in enumerate(("image", "predicted", "true")):
        draw.text((column * TILE + 6, 42), name, INK, font)
    rows = [np.asarray(heading)]
    for image, *maps in samples:
        picture = np.uint8(255 * np.broadcast_to(image, (3, *image.shape[1:])).clip(0, 1)).transpose(1, 2, 0)
        tiles = (picture, *(PALETTE[each] for each in maps))
        rows.append(np.concatenate([_tile(tile) for tile in tiles], axis=1))
    _write(path, np.concatenate(rows))


def _error(prediction: np.ndarray, mask: np.ndarray) -> np.ndarray:
    picture = np.zeros((*mask.shape, 3), np.uint8)
    regions = ((prediction & mask, HIT), (prediction & ~mask, FALSE), (~prediction & mask, MISSED))
    for region, colour in regions:
        picture[region] = colour
    return picture


def _tile(pixels: np.ndarray) -> np.ndarray:
    """A picture within a square, its proportions kept."""
    picture = Image.fromarray(pixels).convert("RGB")
    picture.thumbnail((TILE - 4, TILE - 4))
    tile = Image.new("RGB", (TILE, TILE), BACKGROUND)
    tile.paste(picture, ((TILE - picture.width) // 2, (TILE - picture.height) // 2))
    return np.asarray(tile)


def _chart(title: str, lines: dict[str, Points], marks: bool = False,
           colours: dict[str, Colour] | None = None) -> Image.Image:
    """Lines over steps, in one frame; ``marks`` puts a dot on each point."""
    colours = colours or {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(lines)}
    chart = Image.new("RGB", PANEL, BACKGROUND)
    draw, font = ImageDraw.Draw(chart), _font(13)
    left, top, right, bottom = MARGIN[0], MARGIN[1], PANEL[0] - MARGIN[2], PANEL[1] - MARGIN[3]
    points = [point for line in lines.values() for point in line]
    heights = [y for _, y in points] or [0.0]  # where the log was lost
    x_ticks = ticks(0, max([0, *(x for x, _ in points)]), MAX_STEPS)
    y_ticks = ticks(min(heights), max(heights), MAX_STEPS)

    decimals = max(0, -int(np.floor(np.log10(y_ticks[1] - y_ticks[0]) + 1e-9)))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return left + across * (right - left), bottom - up * (bottom - top)

    for y in y_ticks:
        height = place(x_ticks[0], y)[1]
        draw.line(((left, height), (right, height)), GRID)
        draw.text((left - 8, height), f"{y:.{decimals}f}", INK, font, anchor="rm")
    for x in x_ticks:
        draw.text((place(x, y_ticks[0])[0], bottom + 6), f"{x:g}", INK, font, anchor="ma")
    draw.text((left, 8), title, INK, _font(15))
    draw.text((right, bottom + 20), "step", INK, font, anchor="ra")
    width = min(70, (right - left - 220) / len(lines))  # of a name
    for number, (name, line) in enumerate(lines.items()):
        colour = colours[name]
        draw.line([place(*point) for point in line], colour, 2)
        for x, y in (place(*point) for point in line if marks or len(line) == 1):
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), colour)
        if len(lines) > 1:
            draw.text((right - width * (len(lines) - number) + 10, 24), name, colour, font)
    return chart


def _smooth_chart(title: str, lines: dict[str, Points]) -> Image.Image:
    """Where there are many points the means of so many steps."""
    width = max(1, max(map(len, lines.values())) // 60)
    means = {name: [tuple(np.mean(points[start:start + width], axis=0))
                    for start in range(0, len(points), width)] for name, points in lines.items()}
    return _chart(f"{title}, mean of {width} steps" if width > 1 else title, means)


def _font(size: int) -> ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _write(path: Path, pixels: np.ndarray) -> None:
    with atomic_write(path) as file:
        Image.fromarray(pixels).save(file, format="PNG")
