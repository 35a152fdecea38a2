"""Labelled corpora, in and out."""
