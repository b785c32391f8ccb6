"""The demo: the project's examples through the whole embedded stack, with a simulator in the providers' place."""
