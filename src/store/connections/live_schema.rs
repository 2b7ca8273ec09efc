//! The live schema as operations use it: read on first use, kept, and read again where it may have changed.

use std::sync::Arc;

use super::Connections;
use crate::store::inspection::{self, Inspection};
use crate::store::operations::{Backend, FaultyTypes, Runs};
use crate::store::schema::{AppSchema, Requirements, ResolvedSchema, SchemaProblems, resolve};
use crate::store::{SchemaProblem, StoreError};

impl<B: Backend> Connections<B> {
    /// Reads the schema afresh.
    pub(in crate::store) async fn resolved(&self) -> Result<ResolvedSchema, StoreError> {
        let live = self.afresh(async |connection| B::introspect(connection, &self.wanted).await);
        Ok(resolve(&self.wanted, &live.await?))
    }

    /// Looks at everything anew. Operations use the schema that it reads, where none was read before.
    pub(in crate::store) async fn inspect(&self, types: &[Arc<str>]) -> Result<Inspection, StoreError> {
        let (resolved, ledger, faulty_types) = self
            .afresh(async |connection| {
                let live = B::introspect(connection, &self.wanted).await?;
                let resolved = Arc::new(resolve(&self.wanted, &live));
                let ledger = if self.wanted.writes {
                    B::ledger(connection).await?
                } else {
                    None
                };
                let faulty_types = match &resolved.app {
                    Some(app) if !types.is_empty() => {
                        <B as Runs<FaultyTypes<'_>>>::run(&FaultyTypes { types }, app, connection).await
                    }
                    _ => Ok(Vec::new()),
                };
                Ok((resolved, ledger, faulty_types))
            })
            .await?;
        if self.schema.load().is_none() {
            self.keep(&resolved);
        }
        Ok(Inspection {
            tables: inspection::problems(&resolved, &self.wanted),
            ledger,
            faulty_types: faulty_types.map_err(StoreError::from),
        })
    }

    /// What the configuration demands of the tables.
    pub(in crate::store) fn wanted(&self) -> &Requirements {
        &self.wanted
    }

    /// The schema, read on first use. One task reads, the others wait for it (within their own limit).
    pub(super) async fn schema(
        &self,
        connection: &mut B::Connection,
        writes: bool,
    ) -> Result<Arc<AppSchema>, sqlx::Error> {
        let problems = |resolved: &ResolvedSchema| {
            sqlx::Error::Configuration(Box::new(SchemaProblems(resolved.problems.clone())))
        };
        let resolved = self.resolved_by(connection, writes).await?;
        if writes && is_blocked(&resolved) {
            return Err(problems(&resolved));
        }
        resolved.app.clone().ok_or_else(|| problems(&resolved))
    }

    /// The schema with its problems, read where it must be.
    pub(super) async fn resolved_by(
        &self,
        connection: &mut B::Connection,
        writes: bool,
    ) -> Result<Arc<ResolvedSchema>, sqlx::Error> {
        match self.schema.load_full() {
            // A schema with a problem is read again each time: the problem may have been mended.
            Some(resolved) if !(writes && (is_blocked(&resolved) || is_due(&resolved))) => Ok(resolved),
            _ => {
                self.schema.store(None);
                self.load(connection, writes).await
            }
        }
    }

    /// Reads the schema. A write begins its transaction after this; a read has begun before.
    async fn load(
        &self,
        connection: &mut B::Connection,
        is_writing: bool,
    ) -> Result<Arc<ResolvedSchema>, sqlx::Error> {
        let _one_at_a_time = self.loading.lock().await;
        if let Some(resolved) = self.schema.load_full() {
            return Ok(resolved);
        }
        let live = if is_writing {
            let mut reading = B::begin_reading(connection, self.limit).await?;
            B::introspect(&mut reading, &self.wanted).await?
        } else {
            B::introspect(connection, &self.wanted).await?
        };
        let resolved = Arc::new(resolve(&self.wanted, &live));
        self.keep(&resolved);
        Ok(resolved)
    }

    /// Uses a schema for the operations that follow.
    fn keep(&self, resolved: &Arc<ResolvedSchema>) {
        if let Some(app) = &resolved.app {
            self.keys.learn(app.keys());
        }
        self.schema.store(Some(Arc::clone(resolved)));
    }
}

/// Whether no page view can be written.
fn is_blocked(resolved: &ResolvedSchema) -> bool {
    resolved.lacks_events || resolved.problems.iter().any(SchemaProblem::blocks_writes)
}

/// Whether what could not be updated is to be tried again.
fn is_due(resolved: &ResolvedSchema) -> bool {
    resolved.app.as_ref().is_some_and(|app| app.left_out.is_due())
}
