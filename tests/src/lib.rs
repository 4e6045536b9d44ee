//! What the end-to-end tests share: real servers, real relays, a native client. Each ends with the value that stands for it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`redis_server`] | a real `redis-server`, alone or as a replica |
//! | [`redis_sentinel`] | a master, its replica and three Sentinels |
//! | [`redis_cluster`] | a Cluster of three masters and three replicas |
//! | [`redis_tls`] | certificates for a server and its clients |
//! | [`store_session`] | a relay as its store sees it |
//! | [`relay_process`] | the real `lockrelay` binary |
//! | [`native_client`] | the page's own session over a native socket |
//! | [`proxy`] | a TCP connection that takes its time, or is cut |

pub mod native_client;
pub mod proxy;
pub mod redis_cluster;
pub mod redis_sentinel;
pub mod redis_server;
pub mod redis_tls;
pub mod relay_process;
pub mod store_session;
