"""What every test may use."""

pytest_plugins = ["oda.platform.testing"]
