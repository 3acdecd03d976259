"""Attacks on histobatch: what docs/security.md promises, tried."""
