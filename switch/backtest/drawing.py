"""Paper and ink of the plots: figures that are the same bytes on every run, for three readers.

A `.svg` and a `.png` stand alone, on white, with their title. On the page the same SVG stands
inline: without its title, which is a heading there, and with the page's colours, so that it
follows light and dark. Text stays text. Matplotlib's figures are used without pyplot, which
would keep each of them for the life of the process.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence

import matplotlib as mpl
import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from switch.backtest.wording import printable

WIDTH = 380
"""Points; small, so that ten-point text is still readable when a phone shows it whole."""
HEIGHT = 250
TITLE = 26
"""The strip with the title, which the page leaves out."""
LEGEND_LINE = 14
PNG_DOTS_PER_INCH = 144

# Okabe and Ito's colours, which the colour-blind tell apart; no plot relies on colour alone.
ANSWERED = "#0072b2"
TESTED = "#d55e00"
INK = "#1c2127"
MUTED = "#5c6670"
GRID = "#dde2e7"
BAR = "#7f9db3"
PAPER = "#ffffff"
_ON_PAGE = {
    ANSWERED: "answered",
    TESTED: "tested",
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    BAR: "bar",
    PAPER: "paper",
}

_CHINESE = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei")
_TITLE = "plot-title"
_BEFORE_SVG = re.compile(r"\A.*?(?=<svg )", re.DOTALL)
_STYLE_SHEET = re.compile(r"<style type=\"text/css\">.*?</style>", re.DOTALL)
_TITLE_GROUP = re.compile(rf'<g id="{_TITLE}">.*?</g>', re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_ID = re.compile(r'(?<= id=")(?=[^"]*")|(?<=url\(#)|(?<=xlink:href="#)')
_FONT = re.compile(r"font-family: [^;\"]*;?")

# Read when an SVG is written, and there is no way to pass them: set once, for good.
mpl.rcParams["svg.hashsalt"] = "citycard"
mpl.rcParams["svg.fonttype"] = "none"
mpl.rcParams["text.parse_math"] = False
mpl.rcParams["font.sans-serif"] = ["DejaVu Sans", "Verdana", "Arial", "Helvetica"]
mpl.rcParams["font.family"] = ["sans-serif"] + [
    name for name in _CHINESE if name in {font.name for font in fontManager.ttflist}
]


class Rendered(msgspec.Struct, frozen=True):
    """One plot thrice; `inline` is an `<svg>` element for the page, its ids made unique."""

    svg: bytes
    png: bytes
    inline: str


def paper(title: str, *, height: int = HEIGHT) -> Figure:
    """An empty figure of `WIDTH` times `height` points with its title."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor=PAPER)
    text = figure.text(
        10 / WIDTH, 1 - 17 / height, printable(title), fontsize=11, color=INK, fontweight="bold"
    )
    text.set_gid(_TITLE)
    return figure


def axes(
    figure: Figure,
    *,
    top: int = TITLE + 8,
    bottom: int = 42,
    left: int = 52,
    right: int = 14,
) -> Axes:
    """Axes with margins in points: a pale grid behind, no box around."""
    height = figure.get_figheight() * 72
    ax = figure.add_axes(
        (
            left / WIDTH,
            bottom / height,
            (WIDTH - left - right) / WIDTH,
            (height - top - bottom) / height,
        ),
        facecolor=PAPER,
    )
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    for name, spine in ax.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(MUTED)
    ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=9.5, length=3)
    ax.tick_params(axis="y", length=0)
    return ax


def label(ax: Axes, *, x: str = "", y: str = "") -> None:
    """What the axes mean, with units; that of y stands above it, where it needs no turning."""
    words = "\n".join(printable(line) for line in x.split("\n"))
    ax.set_xlabel(words, fontsize=9.5, color=MUTED, labelpad=4)
    if y:
        ax.set_title(printable(y), fontsize=9.5, color=MUTED, loc="left", pad=8, x=-0.12)


def legend(figure: Figure, ax: Axes, *, lines: int, columns: int = 2) -> None:
    """The legend under the title; `lines` is how many the plot left room for."""
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    figure.legend(
        handles[: lines * columns],
        labels[: lines * columns],
        loc="upper left",
        bbox_to_anchor=(4 / WIDTH, 1 - TITLE / (figure.get_figheight() * 72)),
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=2.2,
        columnspacing=1.2,
        borderpad=0.2,
        labelspacing=0.3,
    )


def sentence(title: str, text: str) -> Figure:
    """A plot of nothing: its title and a sentence that says why there is nothing."""
    figure = paper(title, height=TITLE + 44)
    figure.text(
        10 / WIDTH, 18 / (TITLE + 44), printable(text), fontsize=10, color=MUTED, va="bottom"
    )
    return figure


def render(figure: Figure, name: str) -> Rendered:
    """The figure as SVG, PNG and as an element of a page, where its ids begin with `name`."""
    svg, png = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        # a letter that no font here has: an empty box in the PNG, still text in the SVG
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(svg, format="svg", metadata=metadata)
        figure.savefig(png, format="png", dpi=PNG_DOTS_PER_INCH, metadata={"Software": None})
    height = round(figure.get_figheight() * 72)
    return Rendered(svg.getvalue(), png.getvalue(), _inline(svg.getvalue(), name, height))


def _inline(svg: bytes, name: str, height: int) -> str:
    text = _BEFORE_SVG.sub("", svg.decode("utf-8"), count=1)
    text = _TITLE_GROUP.sub("", _STYLE_SHEET.sub("", text), count=1)
    text = _TAG.sub(lambda tag: _retouched(tag.group(), name), text)
    whole = f'width="{WIDTH}pt" height="{height}pt" viewBox="0 0 {WIDTH} {height}"'
    cropped = f'viewBox="0 {TITLE} {WIDTH} {height - TITLE}"'
    if whole not in text:
        raise AssertionError("matplotlib writes another SVG heading than it did; mend _inline")
    return text.replace(whole, cropped, 1).strip()


def _retouched(tag: str, name: str) -> str:
    """One tag (never the text between two) with the page's font, colours and its own ids."""
    tag = _ID.sub(f"{name}.", _FONT.sub("", tag))
    for colour, role in _ON_PAGE.items():
        tag = tag.replace(f": {colour}", f": var(--{role})")
    return tag


def places(values: Sequence[int], count_max: int) -> list[int]:
    """At most so many of the values, evenly chosen and with the first: where ticks stand."""
    step = max(1, -(-len(values) // count_max))
    return list(values[::step])
