"""The room of photos and videos: clients send them to the object store themselves, in parts; the store tells us when they
are whole; an edge shows them to everybody.

``api`` begins an upload, tells how it stands and takes the store's notifications; ``settle`` decides what becomes of a
finished object; ``reconciler`` finds what no notification told; ``edge`` is the cache in front of the store, or
stands as a gate behind ``nginx`` that is.
"""
