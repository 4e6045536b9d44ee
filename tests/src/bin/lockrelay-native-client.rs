//! A client without a browser: the page's own session over a native socket, told what to do by the test that started it.
//!
//! `lockrelay-native-client URL`, then a command on each line of standard input, and an event on each line of standard output:
//!
//! | command | then |
//! |---|---|
//! | `acquire MUTEX` | waits without limit, until `granted TOKEN` or `rejected CODE` |
//! | `release` | gives back what was granted last; `released` once the relay has confirmed |
//! | end of the input | closes the client; the process ends |
//!
//! Unasked: `connected` and the other states of the connection, `ended REASON` for each lock that ended.

use lockrelay_client::session::AcquireOptions;
use lockrelay_protocol::MutexName;
use lockrelay_tests::native_client::{NativeClient, NativeLock};
use std::error::Error;
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("usage: lockrelay-native-client URL")?;
    let client = NativeClient::connect(&[url]);
    let mut states = client.states();
    tokio::spawn(async move {
        while states.changed().await.is_ok() {
            println!("{}", states.borrow_and_update().as_str());
        }
    });
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    let mut held = None;
    while let Some(command) = commands.next_line().await? {
        match command.strip_prefix("acquire ") {
            Some(mutex) => {
                let mut options = AcquireOptions::new(MutexName::new(mutex)?);
                options.wait_millis = None;
                let answer = client.start(options).answer();
                // The end of the input ends a wait too.
                tokio::select! {
                    answer = answer => match answer {
                        Ok(lock) => held = lock.inspect(report),
                        Err(failure) => println!("rejected {}", failure.code),
                    },
                    _ = commands.next_line() => break,
                }
            }
            None if command == "release" => {
                let lock = held.take().ok_or("release: nothing is held")?;
                lock.release().await;
                println!("released");
            }
            None => return Err(format!("unknown command {command:?}").into()),
        }
    }
    client.close().await;
    Ok(())
}

/// Tells of the grant now, and of its end when it comes.
fn report(lock: &NativeLock) {
    println!("granted {}", lock.grant.fencing_token);
    let lock = lock.clone();
    tokio::spawn(async move { println!("ended {}", lock.released().await) });
}
