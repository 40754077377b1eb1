"""Constraints: what a text may be. One file per kind (regex, choice, json_schema, sql), engines below.

A kind compiles itself for a vocabulary (`cursor.Compiled`); `base.Bound` keeps one cursor per row in step with a run;
`front.constraint_of` turns what users give into a kind; `processor.LogitsProcessorOf` serves plain transformers.
"""
