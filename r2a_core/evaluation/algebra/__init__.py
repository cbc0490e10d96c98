"""Reads and compares mathematics written in LaTeX or plain text: tokens -> nodes -> values. See docs/grading.md."""
