"""The shape of the kinds of policy files.

Only shapes: what a name refers to, and what a `when` means, is checked where it is read. Every key has a
description, which is its help in an editor.
"""
