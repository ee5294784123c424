"""What PostgreSQL's texts say otherwise than SQLAlchemy would write them.

A list is one parameter, an array, so that a text does not depend on its
length. LIKE and the place of nulls in an order are SQLite's.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BindParameter, Column, Table, nulls_first, nulls_last, types
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.asyncpg import PGCompiler_asyncpg
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    ClauseList,
    Grouping,
    Label,
    UnaryExpression,
    _label_reference,
)
from sqlalchemy.sql.selectable import Join
from sqlalchemy.sql.visitors import iterate

from tenfold.tables.columns import Uuid
from tenfold.tables.scoping import ScopedCompiler, generation_mark
from tenfold.tables.search import Matches
from tenfold.tables.words import WORDS_FUNCTION

__all__ = ["ListPlace", "StatementCompiler"]

_STRING: Final = types.String()
_NULLS: Final = (operators.nulls_first_op, operators.nulls_last_op)


class ListPlace:
    """What an array parameter is made of: a list, or one place of a list of tuples."""

    __slots__ = ("bind", "item", "place")

    def __init__(self, bind: BindParameter[Any], item: types.TypeEngine[Any], place: int | None):
        self.bind = bind
        self.item = item
        self.place = place


class StatementCompiler(ScopedCompiler, PGCompiler_asyncpg):
    """PostgreSQL's compiler, confined to one tenant and to the module's schema.

    Afterwards `parts` is the text in pieces, a number standing for the parameter
    of that index in `positiontup`; `list_places` tells which of them are arrays.
    """

    parts: list[str | int]

    def _physical(self, table: Table) -> str:
        schema = self.preparer.quote_identifier(self.dialect.schema)  # type: ignore[attr-defined]
        projection = self._scope.projections.get(table.name)
        name = table.name
        if projection is not None:
            name = f"{name}__{generation_mark(projection)}"
        return f"{schema}.{self.preparer.quote_identifier(name)}"

    # -- parameters

    @property
    def list_places(self) -> dict[str, ListPlace]:
        """The array parameters, by name."""
        found: dict[str, ListPlace] = self.__dict__.setdefault("_list_places", {})
        return found

    def _process_numeric(self) -> None:
        """Instead of numbering the parameters: leave their places open."""
        used = dict.fromkeys(name for name in self.bind_names.values() if name in self.binds)
        names = {name: at for at, name in enumerate(used)}
        self.positiontup = list(names)
        written = {self.escaped_bind_names.get(name, name): at for name, at in names.items()}
        parts: list[str | int] = []
        end = 0
        for found in self._pyformat_pattern.finditer(self.string):
            at = written.get(found[1])
            if at is None:
                continue
            parts.extend((self.string[end : found.start()], at))
            end = found.end()
        parts.append(self.string[end:])
        self.parts = parts

    def visit_bindparam(self, bindparam: Any, *args: Any, **kw: Any) -> str:
        """A parameter; a list is one array, a list of tuples one array for each place."""
        if not bindparam.expanding:
            parent: Any = super()
            return str(parent.visit_bindparam(bindparam, *args, **kw))
        if not bindparam.type._is_tuple_type:
            return self._array(bindparam, bindparam.type, None, kw)
        arrays = [
            self._array(bindparam, item, place, kw)
            for place, item in enumerate(bindparam.type.types)
        ]
        return f"(SELECT * FROM unnest({', '.join(arrays)}))"

    def _array(self, bind: Any, item: Any, place: int | None, kw: dict[str, Any]) -> str:
        made = bind._clone(maintain_key=True)
        made.expanding = False
        if not item._isnull:
            made.type = ARRAY(item, dimensions=1)
        if place is not None:
            made.key = f"{self._name_of(bind)}__{place}"
            made._cloned_set = {made}
        parent: Any = super()
        text = str(parent.visit_bindparam(made, **kw))
        self.list_places[self._name_of(made)] = ListPlace(bind, item, place)
        return text

    def _name_of(self, bind: Any) -> str:
        own: Any = self
        return str(own._truncate_bindparam(bind))

    def visit_in_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """IN: of an array, or of a subselect."""
        return self._within(binary, operator, "= ANY", "IN", kw)

    def visit_not_in_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """NOT IN: of an array, or of a subselect."""
        return f"({self._within(binary, operator, '<> ALL', 'NOT IN', kw)})"

    def _within(
        self, binary: Any, operator: Any, scalar: str, rows: str, kw: dict[str, Any]
    ) -> str:
        right = binary.right
        if not (isinstance(right, BindParameter) and right.expanding):
            return str(self._generate_generic_binary(binary, f" {rows} ", **kw))
        left, listed = self.process(binary.left, **kw), self.process(right, **kw)
        if right.type._is_tuple_type:
            return f"{left} {rows} {listed}"
        return f"{left} {scalar} ({listed})"

    def visit_tenfold_matches(self, element: Matches, **kw: Any) -> str:
        """Rows that have the words, by the index over them."""
        words = f"{self.preparer.quote_identifier(self.dialect.schema)}.{WORDS_FUNCTION}"  # type: ignore[attr-defined]
        column, text = self.process(element.column, **kw), self.process(element.text, **kw)
        return f"(array_to_tsvector({words}({column})) @@ CAST({text} AS tsquery))"

    # -- what SQLite does otherwise

    def visit_like_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """LIKE as SQLite has it: whatever the case of ASCII letters, no escape unless asked for."""
        return self._like(binary, "ILIKE", kw)

    def visit_not_like_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """NOT LIKE as SQLite has it."""
        return self._like(binary, "NOT ILIKE", kw)

    def visit_ilike_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """The same as LIKE."""
        return self._like(binary, "ILIKE", kw)

    def visit_not_ilike_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """The same as NOT LIKE."""
        return self._like(binary, "NOT ILIKE", kw)

    def _like(self, binary: Any, word: str, kw: dict[str, Any]) -> str:
        left, right = self.process(binary.left, **kw), self.process(binary.right, **kw)
        own: Any = self
        escape = own.render_literal_value(binary.modifiers.get("escape") or "", _STRING)
        return f'{left} COLLATE "C" {word} {right} ESCAPE {escape}'

    def order_by_clause(self, select: Any, **kw: Any) -> str:
        """ORDER BY, with nulls before everything else, as on SQLite."""
        outer = any(
            isinstance(each, Join) and (each.isouter or each.full)
            for source in getattr(select, "_from_obj", ()) or ()
            for each in iterate(source)
        ) or any(True for setup in getattr(select, "_setup_joins", ()) if _is_outer(setup))
        made = [
            self.process(clause, **kw) + _nulls(clause, outer=outer)
            for clause in select._order_by_clauses
        ]
        return f" ORDER BY {', '.join(made)}" if made else ""

    def visit_over(self, over: Any, **kw: Any) -> str:
        """A window, with nulls before everything else, as on SQLite."""
        if over.order_by is not None:
            over = over._clone()
            over.order_by = ClauseList(*map(_with_nulls, over.order_by.clauses))
        parent: Any = super()
        return str(parent.visit_over(over, **kw))

    def visit_max_func(self, fn: Any, **kw: Any) -> str:
        """The greatest; PostgreSQL 15 has none of identifiers."""
        return self._extreme(fn, kw)

    def visit_min_func(self, fn: Any, **kw: Any) -> str:
        """The least; PostgreSQL 15 has none of identifiers."""
        return self._extreme(fn, kw)

    def _extreme(self, fn: Any, kw: dict[str, Any]) -> str:
        kw.pop("add_to_result_map", None)
        if not isinstance(fn.type, Uuid) or len(fn.clauses) != 1:
            return f"{fn.name}{self.function_argspec(fn, **kw)}"
        # As text of hexadecimal digits identifiers sort as they do as bytes.
        digits = f'CAST({self.process(fn.clauses.clauses[0], **kw)} AS TEXT) COLLATE "C"'
        return f"CAST({fn.name}({digits}) AS UUID)"


def _is_outer(setup: Any) -> bool:
    flags = setup[-1]
    return bool(flags.get("isouter") or flags.get("full"))


def _bare(clause: Any) -> tuple[Any, bool, bool]:
    """What is sorted by, whether downwards, and whether the place of nulls is said."""
    descending = said = False
    while True:
        if isinstance(clause, UnaryExpression):
            descending = descending or clause.modifier is operators.desc_op
            said = said or clause.modifier in _NULLS
            if clause.modifier is None:
                return clause, descending, said
        elif not isinstance(clause, Label | Grouping | _label_reference):
            return clause, descending, said
        clause = clause.element


def _nulls(clause: Any, *, outer: bool) -> str:
    bare, descending, said = _bare(clause)
    # Where there can be none it is left out, or an index would not serve the order.
    never = isinstance(bare, Column) and not bare.nullable and not outer
    if said or never or getattr(bare, "name", None) == "count":
        return ""
    return " NULLS LAST" if descending else " NULLS FIRST"


def _with_nulls(clause: Any) -> Any:
    _, descending, said = _bare(clause)
    if said:
        return clause
    return nulls_last(clause) if descending else nulls_first(clause)
