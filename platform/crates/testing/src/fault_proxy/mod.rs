//! A fault-injecting proxy between two processes on a Unix socket: it forwards requests and answers, and can drop,
//! fail, delay, duplicate or hold them. Each verb or endpoint, before its effect and after it, is a named injection
//! point.

mod http;
mod lines;
mod points;

use std::path::{Path, PathBuf};

pub use points::{Deed, FaultGate, FaultTiming, Points};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// How one side speaks.
#[derive(Clone, Copy)]
enum Speech {
    Http,
    Lines,
}

/// A relay that stands there until it is dropped.
pub struct FaultProxy {
    pub points: Points,
    pub socket: PathBuf,
    stands: tokio::task::JoinHandle<()>,
}

impl FaultProxy {
    /// A proxy that listens on `socket` and forwards to the Engine on `to`.
    pub fn the_engine(socket: &Path, to: &Path) -> Self {
        Self::stand(socket, to, Speech::Http)
    }

    /// A proxy that listens on `socket` and forwards to the provisioner on `to`.
    pub fn the_provisioner(socket: &Path, to: &Path) -> Self {
        Self::stand(socket, to, Speech::Lines)
    }

    fn stand(socket: &Path, to: &Path, speech: Speech) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let (points, to) = (Points::default(), to.to_owned());
        let stands = tokio::spawn({
            let points = points.clone();
            async move {
                // Dropped with the proxy task: that aborts all proxied connections.
                let mut talks = JoinSet::new();
                loop {
                    tokio::select! {
                        Some(_) = talks.join_next() => {}
                        Ok((stream, _)) = listener.accept() => {
                            let (points, to) = (points.clone(), to.clone());
                            talks.spawn(async move { relay(speech, stream, to, points).await });
                        }
                    }
                }
            }
        });
        Self { points, socket: socket.to_owned(), stands }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.stands.abort();
    }
}

/// One conversation. When either side hangs up or says what cannot be understood, both connections end.
async fn relay(speech: Speech, stream: UnixStream, to: PathBuf, points: Points) {
    let _ = match speech {
        Speech::Http => http::relay(stream, &to, &points).await,
        Speech::Lines => lines::relay(stream, &to, &points).await,
    };
}
