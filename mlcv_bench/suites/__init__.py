"""Suites: the tool's own commands with limits, run one after the other and judged together."""
