"""Registration tools behind one interface, one file a library."""
