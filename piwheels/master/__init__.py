"""The master's services: shells around rules."""
