//! The console, as small as it can be for now: `GET /health` for those who watch containers, `GET /metrics` for Prometheus.
//!
//! One request a connection, a few hundred bytes, two seconds. Health is 200 when this node is on the roster, knows a
//! commander and hears its workers, else 503 with the reasons.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, WrapFuture};
use actix_rt::time::{sleep, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use crate::actors::node::Node;
use crate::actors::telling;
use crate::io::streams::{Listener, Stream};

/// Requests that are answered at once.
const AT_ONCE: usize = 16;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long its first line and headers may be.
const REQUEST: usize = 4096;

/// The actor at the console's door.
pub struct Console {
    node: Arc<Node>,
    listener: Option<Listener>,
}

impl Console {
    /// At this listener.
    pub fn new(node: Arc<Node>, listener: Listener) -> Self {
        Self { node, listener: Some(listener) }
    }
}

impl Actor for Console {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let listener = self.listener.take().expect("started once");
        context.spawn(listen(self.node.clone(), listener).into_actor(self));
    }
}

async fn listen(node: Arc<Node>, listener: Listener) {
    let mut listener = match listener.open() {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the console's door cannot be watched"),
    };
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let place = room.clone().acquire_owned().await.expect("never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let node = node.clone();
                actix_rt::spawn(async move {
                    let _ = timeout(PATIENCE, answer(&node, stream)).await;
                    drop(place);
                });
            }
            // Not a guess: a pause before the next try, most often for want of open files.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(node: &Node, mut stream: Stream) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(512);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let path =
        std::str::from_utf8(line).unwrap_or_default().strip_prefix("GET ").and_then(|rest| rest.split(' ').next());
    let (status, kind, body) = match path {
        Some("/health") => health(node),
        Some("/metrics") => ("200 OK", "text/plain; version=0.0.4", telling::metrics(node)),
        Some(_) => ("404 Not Found", "text/plain", "there are /health and /metrics\n".into()),
        None => ("400 Bad Request", "text/plain", "this console hears GET alone\n".into()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn health(node: &Node) -> (&'static str, &'static str, String) {
    let ails = telling::ails(node);
    let status = if ails.is_empty() { "200 OK" } else { "503 Service Unavailable" };
    let body = serde_json::json!({ "healthy": ails.is_empty(), "node": node.me.name, "reasons": ails });
    (status, "application/json", format!("{body}\n"))
}
