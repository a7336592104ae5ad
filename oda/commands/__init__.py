"""One module per subcommand of ``oda``; each is imported only when it runs."""
