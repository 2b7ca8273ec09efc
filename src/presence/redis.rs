//! presence/redis
