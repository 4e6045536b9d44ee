//! The connection that all calls share. It is made anew once it is broken, and also once an answer did not come in time: a
//! connection whose other end went away without a word (a cut cable, a firewall that forgot it) stays open for a quarter of
//! an hour, far longer than any lease.
//!
//! Nothing is sent twice here. Whoever called knows what may be repeated.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, Pipeline, RedisFuture, RedisResult, Value};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A client whose idle connections (a subscription hears nothing for hours) notice a silent peer, and whose small calls
/// leave at once though an earlier one is not answered yet.
pub(super) fn client(url: &str) -> RedisResult<Client> {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    Client::open(url.into_connection_info()?.set_tcp_settings(settings))
}

/// A connection to the server, and the next one after it. Clones share it; calls are pipelined.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

struct Shared {
    client: Client,
    config: AsyncConnectionConfig,
    current: Mutex<Current>,
    /// Held by the one caller that connects, while the others wait for it.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Current {
    /// How many connections there were, so that the end of an old one does not end its successor.
    number: u64,
    connection: Option<MultiplexedConnection>,
}

impl Link {
    /// Connects. `timeout` is for each connecting and for each answer.
    pub(super) async fn connect(client: Client, timeout: Duration) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout));
        let link = Self(Arc::new(Shared {
            client,
            config,
            current: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }));
        let (call, _) = link.begin().await?;
        call.end(Ok(link.clone()))
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Each change is one assignment, so a panic elsewhere leaves nothing half done.
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self) -> Option<(Call, MultiplexedConnection)> {
        let (number, connection) = {
            let current = self.current();
            (current.number, current.connection.clone()?)
        };
        let call = Call {
            link: self.clone(),
            number,
            fine: false,
        };
        Some((call, connection))
    }

    /// The connection to make a call on.
    async fn begin(&self) -> RedisResult<(Call, MultiplexedConnection)> {
        if let Some(present) = self.present() {
            return Ok(present);
        }
        let connecting = self.0.connecting.lock().await;
        if let Some(present) = self.present() {
            return Ok(present);
        }
        let (client, config) = (&self.0.client, &self.0.config);
        let connection = client.get_multiplexed_async_connection_with_config(config).await?;
        {
            let mut current = self.current();
            current.number += 1;
            current.connection = Some(connection);
        }
        drop(connecting);
        // Unless it was found broken since.
        self.present()
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
    }
}

/// A call under way. One that is given up before its answer came, by its caller's own time limit, ends the connection as one
/// that ran into ours does. Others that still wait on it keep their own handles.
struct Call {
    link: Link,
    number: u64,
    fine: bool,
}

impl Call {
    fn end<T>(mut self, result: RedisResult<T>) -> RedisResult<T> {
        self.fine = match &result {
            Ok(_) => true,
            Err(error) => !error.is_io_error() && !error.is_unrecoverable_error(),
        };
        result
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.fine {
            return;
        }
        let mut current = self.link.current();
        if current.number == self.number {
            current.connection = None;
        }
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let (call, mut connection) = self.begin().await?;
            let result = connection.send_packed_command(cmd).await;
            call.end(result)
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let (call, mut connection) = self.begin().await?;
            let result = connection.send_packed_commands(pipeline, offset, count).await;
            call.end(result)
        })
    }

    fn get_db(&self) -> i64 {
        self.0.client.get_connection_info().redis_settings().db()
    }
}
