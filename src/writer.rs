//! Step 5b, record: page views into the app's tables, in batches.

pub mod batch;
