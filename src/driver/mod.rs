//! Runs a lister to its end.
