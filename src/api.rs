//! Step 6, serve: the visitors API.
