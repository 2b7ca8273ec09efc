//! presence/keys
