"""A minimal but real implementation of the platform: the system that the model in ``model/`` predicts.

It talks to its servers by their standard protocols only (those of PostgreSQL, Kafka, Redis and S3), so the embedded servers that
``python -m reference_impl up`` starts can be replaced by a cluster with nothing but other URLs.

The rooms (``uploads``, ``feed``, ``interactions``, ``search``, ``notifications``) never import each other; the follow graph
(``graph``) is the ground that they stand on.
"""
