"""The room of posts and feeds.

``api`` answers ``feed.publish`` and ``feed.open``; ``strategies`` are four ways to compute a feed; ``workers`` fan a
published post out to its author's followers.
"""
