//! The binary: options in, a relay served until it is told to stop.
//!
//! Standard output has one line, `listening on http://ADDRESS`, when the relay is ready; logs go to standard error. The
//! exit code is 0 after a clean stop, 2 if the configuration is wrong, 1 if the store or the address is not to be had.

use lockrelay::Relay;
use lockrelay::config::{ArgsError, Config, LogFormat};
use lockrelay::store::redis::{RedisOptions, RedisStore};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let config = match Config::from_args(std::env::args_os()) {
        Ok(config) => config,
        // Prints to the right stream, and exits with 0 after --help and --version, with 2 otherwise.
        Err(ArgsError::Usage(usage)) => usage.exit(),
        Err(ArgsError::Config(error)) => {
            eprintln!("lockrelay: {error}");
            return ExitCode::from(2);
        }
    };
    start_logs(&config);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no threads to run on: {error}")),
    };
    match runtime.block_on(serve(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(problem: &str) -> ExitCode {
    eprintln!("lockrelay: {problem}");
    ExitCode::FAILURE
}

fn start_logs(config: &Config) {
    let logs = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(EnvFilter::new(&config.log));
    match config.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    // Listened to before the port is told, so that whoever stops the relay as soon as it is up stops it cleanly.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let listener = TcpListener::bind(&config.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", config.listen))?;
    let relay = Arc::new(build(&config).await?);
    let app = relay.router();
    let address = listener.local_addr()?;
    tracing::info!(%address, store = ?config.redis, rules = config.rules.len(), "ready");
    if config.rules.is_empty() {
        tracing::warn!("no rule allows anything: every lock is denied; see [[rule]] in the configuration file");
    }
    // A reader that went away is no reason to stop.
    let _ = writeln!(std::io::stdout(), "listening on http://{address}");

    let serving = axum::serve(listener, app).with_graceful_shutdown(relay.closing());
    let mut serving = tokio::spawn(serving.into_future());
    tokio::select! {
        served = &mut serving => return Ok(served??),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("shutting down");
    relay.shutdown().await;
    // Requests under way are short. One that is not answered by now never will be.
    let served = tokio::time::timeout(std::time::Duration::from_secs(2), serving).await;
    if let Ok(served) = served {
        served??;
    }
    tracing::info!("stopped");
    Ok(())
}

async fn build(config: &Config) -> Result<Relay, Box<dyn std::error::Error>> {
    let mut builder = Relay::builder()
        .rules(config.rules.clone())?
        .durations(config.durations.clone());
    if let Some(redis) = &config.redis {
        // Never in memory instead where it fails: relays that were meant to share their locks would each grant them.
        let store = RedisStore::connect(RedisOptions {
            lease_millis: config.durations.relay_lease_millis + config.durations.delta_millis,
            assume_first_start: config.assume_first_start,
            ..RedisOptions::new(redis.with_password())
        })
        .await
        .map_err(|error| format!("{redis}: {error}"))?;
        if config.demo {
            builder = builder.demo_on(Arc::new(store.scratch()));
        }
        builder = builder.store(Arc::new(store));
    } else if config.demo {
        builder = builder.demo();
    }
    if let Some(www) = &config.www {
        builder = builder.www(www);
    }
    Ok(builder.build().await?)
}
