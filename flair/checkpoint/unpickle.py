"""Reading a pickle without running it.

A small interpreter of the pickle opcodes in which nothing is callable: a global becomes a :class:`Global` (its name), a
call or an instance becomes a :class:`Record` (the name, the arguments, the state). What a record means is decided
afterwards, by a table of names (:mod:`flair.checkpoint.legacy`).

The opcodes are those of ``pickletools.opcodes``; memory is only taken for what the file holds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pickle import decode_long
from typing import Any

from flair.checkpoint.errors import CheckpointError


class Global:
    """A name in a pickle, ``module.name``."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Record:
    """What a pickle would have called or instantiated."""

    __slots__ = ("args", "items", "name", "state")

    def __init__(self, name: str, args: Any) -> None:
        self.name = name
        self.args = args
        self.state: Any = None
        self.items: list[Any] = []


class PersistentId:
    """A reference out of the pickle: in model files, to the memory of a tensor."""

    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key


class _Mark:
    __slots__ = ()


_MARK = _Mark()


def read_pickle(data: bytes | memoryview, allow: Callable[[str], None]) -> tuple[Any, int]:
    """Interpret one pickle.

    Args:
        data: a buffer that begins with the pickle.
        allow: called with each ``module.name`` the pickle refers to; raises to refuse it.

    Returns:
        The object, made of plain values, :class:`Global`, :class:`Record` and :class:`PersistentId`, and the number of
        bytes that were read.

    Raises:
        CheckpointError: when the bytes are no pickle.
    """
    reader = _Reader(memoryview(data), allow)
    try:
        return reader.run(), reader.at
    except CheckpointError:
        raise
    except RecursionError as error:
        raise CheckpointError("The pickle in the file is nested too deeply.") from error
    except (IndexError, KeyError, TypeError, ValueError, struct.error, AttributeError, OverflowError) as error:
        raise CheckpointError(f"The pickle in the file is damaged near byte {reader.at}: {error}") from error


class _Reader:
    def __init__(self, data: memoryview, allow: Callable[[str], None]) -> None:
        self.data = data
        self.at = 0
        self.allow = allow
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        data, size, stack, steps = self.data, len(self.data), self.stack, _STEPS
        while self.at < size:
            code = data[self.at]
            self.at += 1
            if code == 0x2E:  # STOP
                return stack.pop()
            step = steps.get(code)
            if step is None:
                raise CheckpointError(
                    f"The pickle in the file is damaged: unknown opcode {code:#x} at byte {self.at - 1}."
                )
            step(self)
        raise CheckpointError("The pickle in the file ends early.")

    def take(self, count: int) -> memoryview:
        end = self.at + count
        if count < 0 or end > len(self.data):
            raise CheckpointError(f"The pickle in the file ends early: {count} bytes announced at byte {self.at}.")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        end = self.at
        limit = min(len(self.data), self.at + 10_000)
        while end < limit and self.data[end] != 0x0A:
            end += 1
        if end >= limit:
            raise CheckpointError(f"The pickle in the file is damaged: no end of line after byte {self.at}.")
        text = bytes(self.data[self.at : end])
        self.at = end + 1
        return text

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def text(self, form: str) -> None:
        self.push(str(self.take(self.number(form)), "utf-8", "surrogatepass"))

    def binary(self, form: str, kind: Callable[[memoryview], Any] = bytes) -> None:
        self.push(kind(self.take(self.number(form))))

    def old_text(self, form: str) -> None:
        raw = bytes(self.take(self.number(form)))  # a Python 2 string
        self.push(raw.decode("latin1"))

    def long(self, form: str) -> None:
        count = self.number(form)
        if count > 1000:
            raise CheckpointError("The pickle in the file holds a number of more than a thousand bytes.")
        self.push(decode_long(bytes(self.take(count))))

    def pop_mark(self) -> list[Any]:
        stack = self.stack
        for index in range(len(stack) - 1, -1, -1):
            if stack[index] is _MARK:
                items = stack[index + 1 :]
                del stack[index:]
                return items
        raise CheckpointError(f"The pickle in the file is damaged: no mark before byte {self.at}.")

    def name(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise CheckpointError("The pickle in the file is damaged: a global without a name.")
        full = f"{module}.{name}"
        self.allow(full)
        return Global(full)

    def call(self, function: Any, args: Any) -> None:
        if not isinstance(function, Global):
            raise CheckpointError(f"The pickle in the file is damaged: a call of {type(function).__name__}.")
        if not isinstance(args, tuple):
            raise CheckpointError(f"The pickle in the file is damaged: {function.name} is called without arguments.")
        self.push(Record(function.name, args))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Record):
            raise CheckpointError(f"The pickle in the file is damaged: a state for a {type(target).__name__}.")
        target.state = state

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Record):
            target.items.extend(items)
        else:
            raise CheckpointError(f"The pickle in the file is damaged: items for a {type(target).__name__}.")

    def put(self, items: list[Any]) -> None:
        target = self.stack[-1]
        pairs = list(zip(items[::2], items[1::2], strict=True))
        if isinstance(target, dict):
            target.update(pairs)
        elif isinstance(target, Record):
            target.items.extend(pairs)
        else:
            raise CheckpointError(f"The pickle in the file is damaged: entries for a {type(target).__name__}.")

    def add_to_set(self) -> None:
        items, target = self.pop_mark(), self.stack[-1]
        if not isinstance(target, set):
            raise CheckpointError(f"The pickle in the file is damaged: elements for a {type(target).__name__}.")
        target.update(items)

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise CheckpointError(f"The pickle in the file is damaged: it recalls value {index}, which was not stored.")
        self.push(self.memo[index])

    def as_tuple(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) < count or any(item is _MARK for item in items):
            raise CheckpointError("The pickle in the file is damaged: too few values for a tuple.")
        del self.stack[-count:]
        self.push(items)

    def as_dict(self) -> None:
        items = self.pop_mark()
        self.push(dict(zip(items[::2], items[1::2], strict=True)))

    def text_number(self) -> None:
        raw = self.line()
        if len(raw) > 1000:
            raise CheckpointError("The pickle in the file holds a number of more than a thousand digits.")
        self.push({b"00": False, b"01": True}[raw] if raw in (b"00", b"01") else int(raw.rstrip(b"L")))

    def instance(self) -> None:
        module, name = (str(self.line(), "utf-8") for _ in range(2))
        args = self.pop_mark()
        self.call(self.name(module, name), tuple(args))

    def object(self) -> None:
        cls, *args = self.pop_mark()
        self.call(cls, tuple(args))

    def new_with_keywords(self) -> None:
        keywords, args, cls = self.stack.pop(), self.stack.pop(), self.stack.pop()
        if not isinstance(keywords, dict):
            raise CheckpointError("The pickle in the file is damaged: keyword arguments that are none.")
        self.call(cls, args)
        if keywords:
            self.stack[-1].items.extend(keywords.items())

    def extension(self, form: str) -> None:
        code = self.number(form)
        raise CheckpointError(f"The pickle in the file uses extension code {code}; no model file does.")

    def refuse_buffer(self) -> None:
        raise CheckpointError("The pickle in the file refers to buffers outside of it; no model file does.")


def _reversed_call(reader: _Reader) -> None:
    args, function = reader.stack.pop(), reader.stack.pop()
    reader.call(function, args)


def _stack_global(reader: _Reader) -> None:
    name, module = reader.stack.pop(), reader.stack.pop()
    reader.push(reader.name(module, name))


def _global(reader: _Reader) -> None:
    module, name = (str(reader.line(), "utf-8") for _ in range(2))
    reader.push(reader.name(module, name))


def _put_one(reader: _Reader) -> None:
    value, key = reader.stack.pop(), reader.stack.pop()
    reader.put([key, value])


_STEPS_BY_SIGN: dict[bytes, Callable[[_Reader], Any]] = {
    b"(": lambda r: r.push(_MARK),
    b"0": lambda r: r.stack.pop(),
    b"1": lambda r: r.pop_mark(),
    b"2": lambda r: r.push(r.stack[-1]),
    b"F": lambda r: r.push(float(r.line())),
    b"G": lambda r: r.push(r.number(">d")),
    b"I": lambda r: r.text_number(),
    b"L": lambda r: r.text_number(),
    b"J": lambda r: r.push(r.number("<i")),
    b"K": lambda r: r.push(r.number("<B")),
    b"M": lambda r: r.push(r.number("<H")),
    b"N": lambda r: r.push(None),
    b"\x88": lambda r: r.push(True),
    b"\x89": lambda r: r.push(False),
    b"\x8a": lambda r: r.long("<B"),
    b"\x8b": lambda r: r.long("<i"),
    b"V": lambda r: r.push(str(r.line(), "raw-unicode-escape")),
    b"X": lambda r: r.text("<I"),
    b"\x8c": lambda r: r.text("<B"),
    b"\x8d": lambda r: r.text("<Q"),
    b"T": lambda r: r.old_text("<i"),
    b"U": lambda r: r.old_text("<B"),
    b"B": lambda r: r.binary("<I"),
    b"C": lambda r: r.binary("<B"),
    b"\x8e": lambda r: r.binary("<Q"),
    b"\x96": lambda r: r.binary("<Q", bytearray),
    b"]": lambda r: r.push([]),
    b"}": lambda r: r.push({}),
    b")": lambda r: r.push(()),
    b"\x8f": lambda r: r.push(set()),
    b"l": lambda r: r.push(r.pop_mark()),
    b"d": lambda r: r.as_dict(),
    b"t": lambda r: r.push(tuple(r.pop_mark())),
    b"\x85": lambda r: r.as_tuple(1),
    b"\x86": lambda r: r.as_tuple(2),
    b"\x87": lambda r: r.as_tuple(3),
    b"\x91": lambda r: r.push(frozenset(r.pop_mark())),
    b"a": lambda r: r.add([r.stack.pop()]),
    b"e": lambda r: r.add(r.pop_mark()),
    b"s": _put_one,
    b"u": lambda r: r.put(r.pop_mark()),
    b"\x90": lambda r: r.add_to_set(),
    b"g": lambda r: r.recall(int(r.line())),
    b"h": lambda r: r.recall(r.number("<B")),
    b"j": lambda r: r.recall(r.number("<I")),
    b"p": lambda r: r.remember(int(r.line())),
    b"q": lambda r: r.remember(r.number("<B")),
    b"r": lambda r: r.remember(r.number("<I")),
    b"\x94": lambda r: r.remember(len(r.memo)),
    b"c": _global,
    b"\x93": _stack_global,
    b"R": _reversed_call,
    b"\x81": _reversed_call,
    b"\x92": lambda r: r.new_with_keywords(),
    b"i": lambda r: r.instance(),
    b"o": lambda r: r.object(),
    b"b": lambda r: r.build(),
    b"P": lambda r: r.push(PersistentId(str(r.line(), "utf-8"))),
    b"Q": lambda r: r.push(PersistentId(r.stack.pop())),
    b"\x80": lambda r: r.take(1),
    b"\x95": lambda r: r.take(8),
    b"\x82": lambda r: r.extension("<B"),
    b"\x83": lambda r: r.extension("<H"),
    b"\x84": lambda r: r.extension("<i"),
    b"\x97": lambda r: r.refuse_buffer(),
    b"\x98": lambda r: r.refuse_buffer(),
}
_STEPS = {sign[0]: step for sign, step in _STEPS_BY_SIGN.items()}
