"""Draws docs/pictures/architecture.svg: encoder, decoder, and where DSRA sits.

    python -m tests.tools.architecture
"""

from __future__ import annotations

from tests.helpers.paths import ROOT
from utils.files import atomic_write

WIDTH, HEIGHT = 860, 330
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1b1f24; text-anchor: middle; }
.small { font-size: 11px; fill: #59636e; }
.box { fill: #eef1f4; stroke: #59636e; } .dsra { fill: #d7ebff; stroke: #0072b2; stroke-width: 2; }
.map { fill: #fff4d6; stroke: #c08a00; }
.line { fill: none; stroke: #59636e; marker-end: url(#head); } #head path { fill: #59636e; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .small { fill: #9198a1; } .box { fill: #262c33; stroke: #9198a1; }
  .dsra { fill: #0c2d4a; stroke: #56b4e9; } .map { fill: #3a2f0b; stroke: #e69f00; }
  .line { stroke: #9198a1; } #head path { fill: #9198a1; }
}
"""
ROW = {2: 270, 3: 200, 4: 130, 5: 60}  # height of the middle of what belongs to a stage


def box(kind: str, left: int, middle: int, width: int, lines: tuple[str, ...], height: int = 44) -> str:
    """A box of a CSS class with lines of text, the first of them larger."""
    texts = []
    for place, text in enumerate(lines):
        y, style = middle + 5 + 15 * place - 7 * (len(lines) - 1), " class='small'" if place else ""
        texts.append(f"<text x='{left + width // 2}' y='{y}'{style}>{text}</text>")
    return (f"<rect class='{kind}' x='{left}' y='{middle - height // 2}' width='{width}' height='{height}' "
            f"rx='5'/>{''.join(texts)}")


def line(*points: tuple[int, int]) -> str:
    return "<path class='line' d='M" + " L".join(f"{x} {y}" for x, y in points) + "'/>"


def drawing() -> str:
    parts = [box("box", 10, 165, 76, ("image", "3 x H x W")), line((86, 165), (112, 165)),
             "<rect class='box' x='116' y='20' width='150' height='290' rx='5'/>",
             "<text x='191' y='45'>encoder</text>",
             "<text class='small' x='191' y='63'>Res2Net50 or PVTv2-B2</text>",
             box("box", 340, ROW[5], 250, ("receptive-field blocks and", "partial decoder: the coarse map")),
             line((590, ROW[5]), (696, ROW[5])), box("map", 700, ROW[5], 120, ("map 5",), 34)]
    for stage in (4, 3, 2):
        row, above = ROW[stage], ROW[stage + 1]
        stage_of = ("V2: DSRA, V1: reverse attention", f"of features {stage}, guided by map {stage + 1}")
        parts += [box("box", 136, row, 110, (f"features {stage}", f"1/{2 ** (stage + 1)}")),
                  line((246, row), (336, row)), line((246, row), (300, row), (300, ROW[5]), (336, ROW[5])),
                  box("dsra", 340, row, 250, stage_of), line((590, row), (696, row)),
                  box("map", 700, row, 120, (f"map {stage}",), 34),
                  line((740, above + 17), (740, row - 36), (465, row - 36), (465, row - 25))]
    return "\n".join(parts)


def main() -> None:
    text = (f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' "
            "aria-label='Encoder, partial decoder and three stages of reverse attention'>\n"
            f"<style>{STYLE}</style>\n<defs><marker id='head' markerWidth='7' markerHeight='7' refX='6' "
            f"refY='3.5' orient='auto'><path d='M0 0L7 3.5L0 7z'/></marker></defs>\n{drawing()}\n</svg>\n")
    with atomic_write(ROOT / "docs" / "pictures" / "architecture.svg", "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
