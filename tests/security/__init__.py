"""One test per attack, named for it; its docstring states the rule that SECURITY.md claims."""
