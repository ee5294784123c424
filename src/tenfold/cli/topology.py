"""`tenfold topology`: a topology drawn, checked, and compared with another one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tenfold.cli.options import Json, ProductFolder, TopologyName, source
from tenfold.cli.show import print_json
from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.topology import ProductFile, import_product

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Who runs where, on what: drawn, checked, compared.")


@app.command("show")
def show(
    format_: Annotated[
        Literal["text", "mermaid", "svg"],
        typer.Option("--format", help="As words, a Mermaid flowchart, or an image."),
    ] = "text",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where to; standard output if not."),
    ] = None,
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
) -> None:
    """Draw a topology: gateways, services, modules, resources, calls and events."""
    from tenfold.runtimes.pictures.mermaid import render_mermaid
    from tenfold.runtimes.pictures.plan import decide_picture
    from tenfold.runtimes.pictures.svg import render_svg
    from tenfold.runtimes.pictures.words import render_words

    picture = decide_picture(import_product(source(product, topology, None)))
    if json:
        print_json(picture)
        return
    render = {"text": render_words, "mermaid": render_mermaid, "svg": render_svg}[format_]
    text = render(picture)
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserMistakeError(f"{out} could not be written: {error.strerror}.") from error
    print(f"Wrote {out}.")


@app.command("check")
def check(json: Json = False, product: ProductFolder = None, topology: TopologyName = None) -> None:
    """Say what a start would refuse, of one topology or of all; nothing is connected to.

    Ends with 1 where there is anything.
    """
    from tenfold.runtimes.checks import check_topologies

    names, mistakes = check_topologies(product, topology)
    if json:
        print_json(mistakes)
    elif not mistakes:
        print(f"Nothing is wrong with {', '.join(names)}.")
    for mistake in mistakes if not json else ():
        print(f"{', '.join(mistake.topologies)}: {mistake.message}")
    if mistakes:
        raise typer.Exit(1)


@app.command("diff")
def diff(
    before: Annotated[str, typer.Argument(metavar="FROM", help="A topology.")],
    after: Annotated[str, typer.Argument(metavar="TO", help="Another one.")],
    json: Json = False,
    product: ProductFolder = None,
) -> None:
    """Say what changes from one topology to another."""
    from tenfold.runtimes.differences import decide_differences
    from tenfold.runtimes.pictures.plan import Picture, decide_picture

    def read(name: str) -> tuple[ProductFile, Picture]:
        found = source(product, name, None)
        return found, decide_picture(import_product(found))

    changes = list(decide_differences(read(before), read(after)))
    if json:
        print_json(changes)
    elif not changes:
        print(f"{before} and {after} are alike.")
    else:
        print("\n".join(change.text for change in changes))
