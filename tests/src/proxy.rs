//! A TCP proxy between a client and a relay: delays each direction, keeps the order, cuts on demand.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A running proxy. Dropped, it cuts everything and listens no more.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    accepting: JoinHandle<()>,
    links: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Proxy {
    /// Passes connections on to `target` (`host:port`), each message `delay` later in each direction.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(target: &str, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let links = Arc::new(Mutex::new(Vec::new()));
        let (target, all) = (target.to_owned(), Arc::clone(&links));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let link = tokio::spawn(link(client, target.clone(), delay));
                all.lock().expect("no holder panics").push(link);
            }
        });
        Self {
            address,
            accepting,
            links,
        }
    }

    /// `ws://127.0.0.1:PORT/v1/locks`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}{}", self.address, lockrelay_protocol::PATH)
    }

    /// Ends every connection now. New ones are passed on as before.
    ///
    /// # Panics
    /// If another thread panicked meanwhile.
    pub fn cut(&self) {
        for link in self.links.lock().expect("no holder panics").drain(..) {
            link.abort();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn link(client: TcpStream, target: String, delay: Duration) {
    let Ok(relay) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&client, &relay] {
        // Its own delay is the only one wanted.
        let _ = stream.set_nodelay(true);
    }
    let ((from_client, to_client), (from_relay, to_relay)) = (client.into_split(), relay.into_split());
    // Either end's end is the end of both, once what was on the way has arrived.
    tokio::join!(pass(from_client, to_relay, delay), pass(from_relay, to_client, delay));
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut parcels) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if sender
                .send((Instant::now() + delay, buffer[..length].to_vec()))
                .is_err()
            {
                break;
            }
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = parcels.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}
