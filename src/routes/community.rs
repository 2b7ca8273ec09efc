//! Slug to id.
