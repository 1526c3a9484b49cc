"""The room of search: users by name, posts by title.

The database's changes are captured from its log (``cdc``, decoded by ``pgoutput``) and go by the topic ``search`` to the
``indexer``, which writes them to the search engine (``index`` speaks its REST API). ``api`` answers queries through a
``cache``. ``engine`` and ``engine_server`` are the embedded engine, used where no URL of a real one is given.
"""
