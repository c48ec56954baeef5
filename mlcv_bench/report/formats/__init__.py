"""Formats that other systems read: pure functions from plain rows and saved documents to text."""
