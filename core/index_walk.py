"""Going through the rows of one submission or archive, page by page, in the order of an index."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Select, SQLColumnExpression, and_, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

# Above every id.
BEYOND = 2**63 - 1


def walk(
    query: Any,
    alike: Sequence[tuple[SQLColumnExpression[Any], str]],
    by: SQLColumnExpression[Any],
    *,
    above: int = 0,
    below: int = BEYOND,
    newest_first: bool = False,
) -> Select[Any]:
    """Narrow a query down to rows that are alike, between two ids, and order it by id.

    Asked for `submission_id = x AND id > y ORDER BY id LIMIT n`, PostgreSQL takes the ids of all submissions one after
    the other wherever x is a large part of them, and at the end of x goes on through everything newer: half a second
    with two million images, and more each night. A range and an order of all columns of the index leave it no such
    choice. SQLite takes the right index when asked plainly, and a range of several columns by the first of them only.

    Args:
        query: a select, whatever its columns, joins and further conditions.
        alike: the first columns of an index and their values. Where the index holds rows with a value only, the query
            must say so: that the column is not null.
        by: the index's next column, the id.
        above, below: the ids in between are meant, without these two.
    """
    columns = [*(column for column, _ in alike), by]
    values = [value for _, value in alike]
    place = tuple_(*columns)
    as_range = and_(place > (*values, above), place < (*values, below))
    plainly = and_(*(column == value for column, value in alike), by > above, by < below)
    narrowed: Select[Any] = query.where(_Either(as_range, plainly))
    return narrowed.order_by(*(column.desc() if newest_first else column for column in columns))


class _Either(FunctionElement[bool]):
    """Two conditions that say the same: the first is for PostgreSQL, the second for all others."""

    type = Boolean()
    inherit_cache = True

    def self_group(self, against: object = None) -> Any:
        """As it is: SQLAlchemy would have SQLite compare it with 1, for which there is no index."""
        return self


@compiles(_Either, "postgresql")
def _say_first(element: _Either, compiler: SQLCompiler, **options: Any) -> str:
    first, _ = _conditions(element)
    return compiler.process(first, **options)


@compiles(_Either)
def _say_second(element: _Either, compiler: SQLCompiler, **options: Any) -> str:
    _, second = _conditions(element)
    return compiler.process(second, **options)


def _conditions(element: _Either) -> Sequence[ColumnElement[bool]]:
    return [condition.self_group() for condition in element.clauses]
