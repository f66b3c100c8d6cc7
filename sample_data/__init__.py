"""Small real recordings with source and licence, used by the demo and the tests."""
