//! The Lua scripts, each with the shared prelude in front, and with or without leave to run when memory is short.

use redis::Script;

/// One script. Those that free, renew or only read may run when memory is short: they are how it gets better.
macro_rules! script {
    ($file:literal, allow_oom) => {
        Script::new(concat!(
            "#!lua flags=allow-oom\n",
            include_str!("prelude.lua"),
            include_str!($file)
        ))
    };
    ($file:literal) => {
        Script::new(concat!("#!lua\n", include_str!("prelude.lua"), include_str!($file)))
    };
}

/// Every script. Hashed once, sent as EVALSHA, and loaded where the server does not know it (any more).
pub(super) struct Scripts {
    pub(super) open: Script,
    /// A batch with requests.
    pub(super) batch: Script,
    /// A batch that only frees.
    pub(super) freeing_batch: Script,
    pub(super) renew: Script,
    pub(super) reap: Script,
    pub(super) close: Script,
    pub(super) end_recovery: Script,
    pub(super) list: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            open: script!("open.lua", allow_oom),
            batch: script!("batch.lua"),
            freeing_batch: script!("batch.lua", allow_oom),
            renew: script!("renew.lua", allow_oom),
            reap: script!("reap.lua", allow_oom),
            close: script!("close.lua", allow_oom),
            end_recovery: script!("end_recovery.lua", allow_oom),
            list: script!("list.lua", allow_oom),
        }
    }
}
