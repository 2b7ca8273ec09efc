//! A connection to the node that answers a call, with the prefix that a redirection requires.

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value};
use futures_util::FutureExt as _;

/// A connection to the server that answers a call.
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

    /// The same, unless the node is importing keys: for a call that touches keys which it does not name, since
    /// keys that have not arrived yet would look empty.
    pub(super) fn with_all_keys(self) -> RedisResult<Self> {
        if self.is_asked {
            return Err(being_moved());
        }
        Ok(self)
    }

    /// A node that is importing the keys of the call, named by another node for this one call.
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
        // In one write: no other call on this connection may come in between.
        let mut pipeline = ::redis::pipe();
        pipeline.cmd("ASKING").add_command(cmd.clone());
        async move {
            let mut answers = self.connection.req_packed_commands(&pipeline, 1, 1).await?;
            Ok(answers.pop().unwrap_or(Value::Nil))
        }
        .boxed()
    }

    /// A pipeline must not be sent to an importing node, which does not have all keys.
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
