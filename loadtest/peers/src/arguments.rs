//! The command line of the peers on tokio, and the runtime and listener that it asks for.

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use crate::Rooms;

/// 20 ticks a second, as corelay's default.
const TICK: Duration = Duration::from_millis(50);
/// After an accept that failed, which a full table of descriptors makes the next one do, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A relay to compare corelay with: a record that is sent to /room/N is in the next tick's frame of everybody there.
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    /// Address and port
    #[arg(long)]
    pub listen: SocketAddr,
    /// Worker threads; with one, tokio's current-thread runtime [default: one per processor]
    #[arg(long)]
    pub threads: Option<NonZeroU32>,
}

impl Arguments {
    /// Serves until the process is ended: `serve_client` is one client from its accept on, in a task of its own.
    pub fn run<F>(self, serve_client: impl Fn(TcpStream, Arc<Rooms>) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // As corelay does: memory is counted in pages of 4 KiB, not in steps of 2 MiB.
        rustix::thread::disable_transparent_huge_pages(true).context("huge pages stay on")?;
        let threads = match self.threads {
            Some(threads) => threads.get() as usize,
            None => std::thread::available_parallelism()?.get(),
        };
        // A single worker needs no stealing, and nobody to wake.
        let runtime = match threads {
            1 => Builder::new_current_thread().enable_all().build(),
            _ => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
        }?;
        let rooms = Arc::new(Rooms::new(TICK));
        runtime.block_on(async move {
            let listener =
                TcpListener::bind(self.listen).await.with_context(|| format!("--listen {}", self.listen))?;
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                if stream.set_nodelay(true).is_ok() {
                    tokio::spawn(serve_client(stream, Arc::clone(&rooms)));
                }
            }
        })
    }
}
