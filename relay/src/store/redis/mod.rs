//! Locks in Redis (7 or newer) or Valkey, for any number of relays: one hash per partition, changed by Lua scripts only.
//!
//! | file | what it holds |
//! |---|---|
//! | `prelude.lua` | the layout of the hash and the rules of the queue, shared by all scripts |
//! | `open.lua`, `batch.lua`, `renew.lua`, `reap.lua`, `close.lua`, `end_recovery.lua`, `list.lua` | one for each call |
//! | `scripts` | the scripts as they are sent |
//! | `reply` | what they answer, as the store's types |
//! | `server` | whether a server is fit, and whether this is its first use |
//! | `link` | the connection that calls share |
//! | `hints` | grants by publish/subscribe |
//! | [`scratch`] | where the demo's shop keeps its things |
//!
//! No Redis TTL and no Redis clock decides anything: relay sessions are counters that their peers watch. `TIME` is read only
//! to seed the fencing counter of a new generation. What belongs to replication (`WAIT`, re-assertion after a failover) and to
//! a cluster (more than one partition) is not built yet; its places are the generation in each granting script and the
//! partition in each key.

mod hints;
mod link;
mod reply;
pub mod scratch;
mod scripts;
mod server;

use super::{
    Admission, Answer, Batch, BatchReply, Caller, Entry, Hint, LockStore, Op, Opened, Partition, ReapReply, Renewal,
    SessionId, Slot, StoreError,
};
use async_trait::async_trait;
use link::Link;
use lockrelay_protocol::Mode;
use redis::{Client, ErrorKind, RedisError, Script, ScriptInvocation};
use reply::Reply;
use scripts::Scripts;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Version of the layout of the hash.
const SCHEMA: &str = "1";

/// How many hints a receiver may be behind before further ones are dropped.
const HINTS: usize = 1024;

/// How to use a Redis.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// `redis://[user:password@]host[:port][/database]`.
    pub url: String,
    /// How long a lease of an earlier life may still be believed in, in milliseconds: the relay lease plus delta. A server
    /// that has been up for less may have lost its data in a restart.
    pub lease_millis: u64,
    /// Take an empty server for a new one, whatever it looks like. For tests and throw-away servers only: after a restart
    /// that lost the data it lets two clients hold one lock.
    pub assume_first_start: bool,
    /// How long to wait for an answer before the call counts as unanswered, in milliseconds.
    pub response_millis: u64,
}

impl RedisOptions {
    /// How long a call waits for its answer where nothing else is said, in milliseconds: well within the relay lease.
    pub const RESPONSE_MILLIS: u64 = 2_000;

    /// A safe use of the server at this URL, with the default durations.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        let durations = crate::defaults::Durations::default();
        Self {
            url: url.into(),
            lease_millis: durations.relay_lease_millis + durations.delta_millis,
            assume_first_start: false,
            response_millis: Self::RESPONSE_MILLIS,
        }
    }
}

/// A store in Redis. Clones share one connection, over which calls are pipelined.
#[derive(Clone)]
pub struct RedisStore {
    client: Client,
    connection: Link,
    scripts: Arc<Scripts>,
    options: Arc<RedisOptions>,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the URL: it may have a password.
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Connects, and looks whether the server is fit.
    ///
    /// # Errors
    /// [`StoreError::Unfit`] if the URL is wrong or the server is not fit for locks, with what to change;
    /// [`StoreError::Unavailable`] if it does not answer.
    pub async fn connect(options: RedisOptions) -> Result<Self, StoreError> {
        let client = link::client(&options.url).map_err(|error| {
            StoreError::Unfit(format!(
                "the Redis URL cannot be used ({error}); write redis://host:port"
            ))
        })?;
        let timeout = Duration::from_millis(options.response_millis);
        let mut connection = Link::connect(client.clone(), timeout)
            .await
            .map_err(|error| failure(&error))?;
        server::check_fit(&mut connection).await?;
        Ok(Self {
            client,
            connection,
            scripts: Arc::new(Scripts::new()),
            options: Arc::new(options),
        })
    }

    /// A scratch for the demo on the same server.
    #[must_use]
    pub fn scratch(&self) -> scratch::RedisScratch {
        scratch::RedisScratch::new(self.client.clone(), self.connection.clone())
    }

    fn version(&self) -> String {
        format!("{SCHEMA} {}", self.partitions())
    }

    async fn invoke(&self, call: &ScriptInvocation<'_>) -> Result<Reply, StoreError> {
        call.invoke_async(&mut self.connection.clone())
            .await
            .map_err(|error| failure(&error))
    }
}

/// The key of a partition. The braces keep it and its channels in one slot of a cluster.
fn key(partition: Partition) -> String {
    format!("lockrelay:{{{}}}", partition.0)
}

fn failure(error: &RedisError) -> StoreError {
    match error.code() {
        Some("OOM") => StoreError::Full(error.to_string()),
        Some("NOAUTH" | "NOPERM" | "WRONGPASS") => unpermitted(error),
        _ if error.kind() == ErrorKind::AuthenticationFailed => unpermitted(error),
        // Among the others is READONLY: a replica after a failover, until the connection reaches the master.
        _ => StoreError::Unavailable(error.to_string()),
    }
}

fn unpermitted(error: &RedisError) -> StoreError {
    StoreError::Unfit(format!(
        "the Redis server does not let this user in, or not do what a relay needs ({error}): check user and password of the \
         URL, and permit the keys and channels lockrelay:* with @hash @scripting @pubsub, INFO and TIME"
    ))
}

/// A call with what each caller says of itself.
fn call_by<'a>(script: &'a Script, partition: Partition, caller: &Caller) -> ScriptInvocation<'a> {
    let mut call = script.key(key(partition));
    call.arg(caller.session.to_string())
        .arg(caller.generation)
        .arg(caller.highest_token)
        .arg(caller.acknowledged);
    call
}

const fn letter(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "x",
        Mode::Shared => "s",
    }
}

fn marked(metadata: Option<&str>) -> String {
    metadata.map_or_else(|| "0".to_owned(), |text| format!("1{text}"))
}

fn add_op(call: &mut ScriptInvocation<'_>, op: &Op) {
    match op {
        Op::Acquire(request) => {
            let admission = match request.admission {
                Admission::Queue => "q",
                Admission::IfAvailable => "i",
                Admission::Steal => "s",
            };
            call.arg("A")
                .arg(request.slot.0)
                .arg(request.lock_id.as_str())
                .arg(request.mutex.as_str())
                .arg(letter(request.mode))
                .arg(admission)
                .arg(marked(request.metadata.as_deref()));
        }
        Op::Reassert(claim) => {
            call.arg("C")
                .arg(claim.slot.0)
                .arg(claim.lock_id.as_str())
                .arg(claim.mutex.as_str())
                .arg(letter(claim.mode))
                .arg(claim.token)
                .arg(marked(claim.metadata.as_deref()));
        }
        Op::Remove { slot, lock_id } => {
            call.arg("R").arg(slot.0).arg(lock_id.as_str());
        }
        Op::Settle { mutex } => {
            call.arg("S").arg(mutex.as_str());
        }
    }
}

#[async_trait]
impl LockStore for RedisStore {
    fn partitions(&self) -> u16 {
        1
    }

    async fn open(
        &self,
        partition: Partition,
        session: SessionId,
        seen: u64,
        highest_token: u64,
    ) -> Result<Opened, StoreError> {
        let mut connection = self.connection.clone();
        // A server behind the same URL may be another one since.
        server::check_fit(&mut connection).await?;
        let first = self.options.assume_first_start
            || server::is_first_start(&mut connection, &key(partition), self.options.lease_millis).await?;
        server::leave_marker(&mut connection).await?;
        let mut call = self.scripts.open.key(key(partition));
        call.arg(session.to_string())
            .arg(seen)
            .arg(highest_token)
            .arg(0)
            .arg(self.version())
            .arg(u8::from(first));
        let reply = self.invoke(&call).await?;
        if let [kind, found] = &reply[..]
            && kind == "UNFIT"
        {
            return Err(StoreError::Unfit(format!(
                "the locks in this Redis have schema and partitions {found:?}, this relay has {:?}: use the same version and \
                 the same number of partitions in all relays, or another database",
                self.version()
            )));
        }
        let opened = reply::answer(&reply, |rest| match rest {
            [generation, recovering, token] => Ok((generation.clone(), recovering == "1", token.clone())),
            other => Err(StoreError::Unavailable(format!(
                "the script's reply makes no sense: {other:?}"
            ))),
        })?;
        let Answer::Done((generation, recovering, token)) = opened else {
            return Err(StoreError::Unavailable("open was answered as another call".to_owned()));
        };
        let number = |text: &str| {
            text.parse()
                .map_err(|_| StoreError::Unavailable(format!("no number: {text:?}")))
        };
        Ok(Opened {
            generation: super::Generation {
                number: number(&generation)?,
                recovering,
            },
            highest_token: number(&token)?,
        })
    }

    async fn execute(
        &self,
        partition: Partition,
        caller: &Caller,
        batch: &Batch,
    ) -> Result<Answer<BatchReply>, StoreError> {
        let grows = batch.ops.iter().any(|op| matches!(op, Op::Acquire(_)));
        let script = if grows {
            &self.scripts.batch
        } else {
            &self.scripts.freeing_batch
        };
        let mut call = call_by(script, partition, caller);
        call.arg(batch.seq);
        for op in &batch.ops {
            add_op(&mut call, op);
        }
        reply::answer(&self.invoke(&call).await?, reply::batch)
    }

    async fn renew(&self, partition: Partition, caller: &Caller) -> Result<Answer<Renewal>, StoreError> {
        let call = call_by(&self.scripts.renew, partition, caller);
        reply::answer(&self.invoke(&call).await?, reply::renewal)
    }

    async fn reap(
        &self,
        partition: Partition,
        caller: &Caller,
        dead: SessionId,
        counter: u64,
    ) -> Result<Answer<ReapReply>, StoreError> {
        let mut call = call_by(&self.scripts.reap, partition, caller);
        call.arg(dead.to_string()).arg(counter);
        reply::answer(&self.invoke(&call).await?, reply::reaped)
    }

    async fn close(&self, partition: Partition, session: SessionId) -> Result<ReapReply, StoreError> {
        let mut call = self.scripts.close.key(key(partition));
        call.arg(session.to_string());
        match reply::answer(&self.invoke(&call).await?, reply::reaped)? {
            Answer::Done(reaped) => Ok(reaped),
            other => Err(StoreError::Unavailable(format!("close was answered {other:?}"))),
        }
    }

    async fn end_recovery(&self, partition: Partition, caller: &Caller) -> Result<Answer<()>, StoreError> {
        let call = call_by(&self.scripts.end_recovery, partition, caller);
        reply::answer(&self.invoke(&call).await?, |_| Ok(()))
    }

    async fn list(
        &self,
        partition: Partition,
        session: SessionId,
        from: Slot,
    ) -> Result<(Vec<Entry>, Option<Slot>), StoreError> {
        let mut call = self.scripts.list.key(key(partition));
        call.arg(session.to_string()).arg(from.0);
        reply::page(&self.invoke(&call).await?)
    }

    fn hints(&self, partition: Partition, session: SessionId) -> mpsc::Receiver<Hint> {
        let (sender, receiver) = mpsc::channel(HINTS);
        let channel = format!("{}:{session}", key(partition));
        tokio::spawn(hints::follow(self.client.clone(), channel, sender));
        receiver
    }
}
