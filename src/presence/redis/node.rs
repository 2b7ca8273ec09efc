//! A connection as a call sees it.

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value};
use futures_util::FutureExt as _;

/// A connection to the server that is to answer.
#[derive(Clone)]
pub(super) struct Node {
    connection: MultiplexedConnection,
    is_asked: bool,
}

impl Node {
    /// A server that has all keys of the call.
    pub(super) fn of(connection: MultiplexedConnection) -> Self {
        Self {
            connection,
            is_asked: false,
        }
    }

    /// The same, unless it is a node to which keys are being moved: for a call that touches keys which it does not
    /// name. Those that are not there yet would be taken for empty.
    pub(super) fn with_all_keys(self) -> RedisResult<Self> {
        if self.is_asked {
            return Err(being_moved());
        }
        Ok(self)
    }

    /// A node to which the keys of the call are being moved, and which another named for this one call.
    pub(super) fn asked(self) -> Self {
        Self {
            is_asked: true,
            ..self
        }
    }
}

impl ConnectionLike for Node {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        if !self.is_asked {
            return self.connection.req_packed_command(cmd);
        }
        // In one writing: no other call on this connection may come in between.
        let mut pipeline = ::redis::pipe();
        pipeline.cmd("ASKING").add_command(cmd.clone());
        async move {
            let mut answers = self.connection.req_packed_commands(&pipeline, 1, 1).await?;
            Ok(answers.pop().unwrap_or(Value::Nil))
        }
        .boxed()
    }

    /// Of a node to which keys are being moved it would be wrong to ask for many: it does not have all of them.
    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        if !self.is_asked {
            return self.connection.req_packed_commands(pipeline, offset, count);
        }
        async move { Err(being_moved()) }.boxed()
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}

fn being_moved() -> RedisError {
    let kind = ErrorKind::Server(ServerErrorKind::TryAgain);
    (kind, "the keys are being moved to another node").into()
}
