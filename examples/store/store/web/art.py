"""Pictures of products, drawn from their names: the same name is always the same picture."""

from __future__ import annotations

import re
from functools import cache
from hashlib import blake2s
from pathlib import Path

__all__ = ["art_name", "draw"]

# ground, shade of the ground, body, accent, line
_PALETTES = (
    ("#f3dfc8", "#ebcfae", "#b4513b", "#f7f0e4", "#4b2a22"),
    ("#d7e3d4", "#c3d5bf", "#3f6b57", "#f4efe2", "#1f3a30"),
    ("#d9e2ec", "#c4d2e0", "#41628a", "#f6efe3", "#22344d"),
    ("#f1d9d6", "#e7c4c0", "#9c4a5c", "#fbf3ea", "#4d2431"),
    ("#f4e7bd", "#ead899", "#b3832a", "#fbf6e6", "#543c12"),
    ("#e2dbea", "#d1c7de", "#6b5490", "#f8f2ea", "#35294a"),
    ("#d3e6e4", "#bcd7d4", "#2f7a78", "#f8f0e0", "#173f3f"),
    ("#ecdccb", "#dfc9b1", "#7a5a43", "#faf3e8", "#3a281c"),
)
# The first that a name holds decides, so narrower words stand before wider ones.
_MOTIFS = (
    ("heart", "HEART LOVE VALENTINE"),
    ("lamp", "LAMP LAMPSHADE"),
    ("candle", "CANDLE T-LIGHT TLIGHT LIGHT LANTERN NIGHT"),
    ("can", "WATERING"),
    ("planter", "PLANTER"),
    ("teapot", "TEAPOT KETTLE"),
    ("mug", "MUG CUP TEACUP TEA COFFEE JUG SAUCER"),
    ("mirror", "MIRROR"),
    ("vase", "VASE"),
    ("knife", "KNIFE"),
    ("board", "CHOPPING CHEESEBOARD"),
    ("apron", "APRON"),
    ("sock", "SOCK STOCKING"),
    ("puzzle", "PUZZLE JIGSAW"),
    ("blocks", "BLOCK"),
    ("notebook", "NOTEBOOK BOOK DIARY"),
    ("throw", "THROW BLANKET"),
    ("napkin", "NAPKIN SERVIETTE"),
    ("pen", "PEN PENCIL"),
    ("jar", "JAR JAM HONEY"),
    ("bag", "BAG LUNCHBAG SHOPPER TOTE PURSE"),
    ("clock", "CLOCK WATCH TIMER ALARM"),
    ("bird", "BIRD DOVE HEN DUCK DUCKS OWL CHICK ROBIN"),
    ("star", "STAR CHRISTMAS XMAS SNOWFLAKE"),
    ("cake", "CAKE CAKESTAND CAKECASES CUPCAKE BAKING TART"),
    ("flower", "FLOWER ROSE DAISY GARDEN PANSY PLANT FLORAL PETALS"),
    ("bottle", "BOTTLE WATER"),
    ("house", "HOUSE HOME DOOR COTTAGE BIRDHOUSE"),
    ("frame", "FRAME PHOTO PICTURE SIGN CHALKBOARD"),
    ("card", "CARD CARDS PAPER WRAP POSTAGE ENVELOPE"),
    ("box", "BOX TIN TINS CASE CABINET TRINKET GIFT DRAWER"),
    ("bowl", "BOWL PLATE DISH TRAY POT"),
    ("cushion", "CUSHION QUILT FELTCRAFT"),
    ("umbrella", "UMBRELLA PARASOL RAIN"),
)
_PLAIN = "tiles"
_GROUNDS = (
    '<circle cx="100" cy="104" r="76" fill="{shade}"/>',
    '<path d="M0 128q50-26 100 0t100 0v72H0z" fill="{shade}"/>',
    '<path d="M0 150h200v50H0z" fill="{shade}"/>',
    '<path d="M28 200V100a72 72 0 0 1 144 0v100z" fill="{shade}"/>',
    '<g fill="{shade}">{dots}</g>',
    '<path d="M100-40L240 100 100 240-40 100z" fill="{shade}"/>',
)
_NAME = re.compile(r"([a-z]+)-([0-9a-f]{8})", re.ASCII)
_FOLDER = Path(__file__).parent / "motifs"


def art_name(sku: str, name: str) -> str:
    """The name of a product's picture: what it shows, and a number that colours it."""
    words = re.split(r"[^A-Z-]+", name.upper())
    # Plurals count as what they are many of.
    known = {*words, *(word.removesuffix("S") for word in words)}
    motif = next((m for m, keys in _MOTIFS if known & set(keys.split())), _PLAIN)
    return f"{motif}-{blake2s(sku.encode(), digest_size=4).hexdigest()}"


def draw(art: str) -> str | None:
    """The SVG of a picture that `art_name` names; None for any other name."""
    match = _NAME.fullmatch(art)
    shape = _motif(match[1]) if match else None
    if match is None or shape is None:
        return None
    number = int(match[2], 16)
    ground, shade, body, accent, line = _PALETTES[number % len(_PALETTES)]
    colours = {
        "shade": shade,
        "body": body,
        "accent": accent,
        "line": line,
        "dots": _dots(number >> 9),
        "tiles": _tiles(number >> 3, body, accent, line),
    }
    backdrop = _GROUNDS[(number >> 5) % len(_GROUNDS)].format(**colours)
    lean = (number >> 11) % 9 - 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 200">'
        f'<rect width="200" height="200" fill="{ground}"/>{backdrop}'
        f'<ellipse cx="100" cy="160" rx="48" ry="6" fill="{line}" opacity=".16"/>'
        f'<g transform="rotate({lean} 100 106)">{shape.format(**colours)}</g></svg>'
    )


@cache
def _motif(name: str) -> str | None:
    """A motif's drawing on 200 by 200, with the places for its colours in braces."""
    known = name == _PLAIN or any(name == motif for motif, _ in _MOTIFS)
    return (_FOLDER / f"{name}.svg.txt").read_text("utf-8") if known else None


def _dots(number: int) -> str:
    step, offset = 28 + number % 3 * 6, number % 2 * 9
    return "".join(
        f'<circle cx="{x}" cy="{y}" r="5"/>'
        for y in range(14, 200, step)
        for x in range(14 - offset + y // step % 2 * step // 2, 210, step)
    )


def _tiles(number: int, *colours: str) -> str:
    """A small quilt of quarter circles, for what no word describes."""
    parts: list[str] = []
    for index in range(9):
        turn, colour = (number >> index * 2) % 4, colours[(number >> index) % len(colours)]
        x, y = index % 3 * 32, index // 3 * 32
        parts.append(
            f'<path d="M{x} {y}h32a32 32 0 0 1-32 32z" fill="{colour}" '
            f'transform="rotate({turn * 90} {x + 16} {y + 16})"/>'
        )
    return "".join(parts)
