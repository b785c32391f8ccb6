"""What the tests share: real parts, and waits on conditions."""
