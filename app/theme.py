"""A theme put into force: palette on Fusion, style template, and pyqtgraph's defaults."""

from __future__ import annotations

import dataclasses
import string

import pyqtgraph
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPalette, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication

from app.demo import PROJECT
from views.theme import DARK, LIGHT, Theme

TEMPLATE = PROJECT / "assets" / "style.qss.tmpl"
ICONS = PROJECT / "assets" / "icons"
THEMES = {"dark": DARK, "light": LIGHT}
SYSTEM = "system"


def choose(name: str, application: QApplication) -> Theme:
    """The theme called ``name``; ``system`` follows the desktop, and is dark where that says nothing."""
    if name in THEMES:
        return THEMES[name]
    return LIGHT if application.styleHints().colorScheme() == Qt.ColorScheme.Light else DARK


def apply(theme: Theme, application: QApplication) -> None:
    """Colour the whole application; quickest while there are no widgets yet."""
    sheet = style_sheet(theme)
    if application.styleSheet() != sheet:
        application.setStyleSheet("")  # first: from sheet to sheet, Qt takes more than twice as long
        if application.style().name() != "fusion":
            application.setStyle("Fusion")
        application.setPalette(palette(theme))
        application.setStyleSheet(sheet)
    pyqtgraph.setConfigOptions(background=theme.base, foreground=theme.muted, antialias=False, useOpenGL=False)


def palette(theme: Theme) -> QPalette:
    """Fusion's roles in the theme's colours."""
    role = QPalette.ColorRole
    roles = {
        role.Window: theme.window, role.WindowText: theme.text, role.Base: theme.base, role.AlternateBase: theme.raised,
        role.Text: theme.text, role.Button: theme.raised, role.ButtonText: theme.text, role.BrightText: theme.error,
        role.ToolTipBase: theme.raised, role.ToolTipText: theme.text, role.PlaceholderText: theme.muted, role.Link: theme.accent,
        role.Highlight: theme.accent, role.HighlightedText: theme.base if theme.dark else "#ffffff", role.Accent: theme.accent,
        role.Light: theme.border, role.Midlight: theme.raised, role.Mid: theme.border, role.Dark: theme.border, role.Shadow: theme.base,
    }  # fmt: skip
    result = QPalette()
    for key, color in roles.items():
        result.setColor(key, QColor(color))
    for key in (role.WindowText, role.Text, role.ButtonText):
        result.setColor(QPalette.ColorGroup.Disabled, key, QColor(theme.muted))
    result.setColor(QPalette.ColorGroup.Disabled, role.Highlight, QColor(theme.border))
    return result


def style_sheet(theme: Theme) -> str:
    """The template with every role filled in.

    Raises:
        KeyError: the template names a role that the theme has not.
    """
    roles = {field.name: getattr(theme, field.name) for field in dataclasses.fields(theme)}
    template = string.Template(TEMPLATE.read_text("utf-8"))
    return template.substitute(roles, icons=ICONS.as_posix(), shade="dark" if theme.dark else "light")


def icon(name: str, color: str, disabled: str = "") -> QIcon:
    """The drawing of that name in one colour, sharp at one and at two device pixels a point."""
    drawing = (ICONS / f"{name}.svg").read_text("utf-8")
    result = QIcon()
    for mode, shade in ((QIcon.Mode.Normal, color), (QIcon.Mode.Disabled, disabled or color)):
        renderer = QSvgRenderer(drawing.replace("currentColor", shade).encode())
        for size in (16, 32):
            picture = QPixmap(size, size)
            picture.fill(Qt.GlobalColor.transparent)
            painter = QPainter(picture)
            renderer.render(painter)
            painter.end()
            result.addPixmap(picture, mode)
    return result
