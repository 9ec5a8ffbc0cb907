"""The panels of the window. A view gets (recording, selection, settings, theme) and knows neither the app nor another view."""
