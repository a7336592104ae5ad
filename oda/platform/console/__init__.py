"""The stand-in platform's console: one page over the REST API, served on the same port."""
