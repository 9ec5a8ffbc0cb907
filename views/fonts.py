"""The size of the small print."""

from __future__ import annotations

from PySide6.QtGui import QFont


def smaller(font: QFont) -> QFont:
    """A point smaller, as legends, axes and facts are written."""
    small = QFont(font)
    small.setPointSizeF(max(7.0, font.pointSizeF() - 1))
    return small
