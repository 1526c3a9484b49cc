"""The client's half of an upload: parts in parallel, only failed ones again, resumed after a crash.

``transfer`` knows the protocol and no network; ``client`` does it over HTTP with threads; ``command`` is ``flashcrowd upload``.
The load test's users have a network of their own and use ``transfer`` only.
"""
