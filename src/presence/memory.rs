//! presence/memory
