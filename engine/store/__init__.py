"""The expert store on disk: format, writer, reader."""

from engine.store.catalog import default_store_path, open_or_convert
from engine.store.format import is_store
from engine.store.reader import Record, Store
from engine.store.writer import DEFAULT_WIDTHS, Progress, convert

__all__ = ["DEFAULT_WIDTHS", "Progress", "Record", "Store", "convert", "default_store_path", "is_store", "open_or_convert"]
