//! store/schema
