"""For all tests: no test of properties asserts how long an example takes; the machine may be busy."""

from hypothesis import settings

settings.register_profile("flashcrowd", deadline=None)
settings.load_profile("flashcrowd")
