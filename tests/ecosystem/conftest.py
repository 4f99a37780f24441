"""These tests' libraries are imported by those runs alone that ask for them."""


def pytest_ignore_collect(config):
    """None leaves the choice to others."""
    return True if "not ecosystem" in config.option.markexpr else None
