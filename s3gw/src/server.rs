//! Connections: with [`crate::timer`] the only file that names hyper.
//!
//! Each connection is one task. It may be idle, or take its time with a head, for
//! [`Config::head_timeout`]; body and answer have their own bounds ([`crate::guard::payload`],
//! [`crate::wire::Watched`]). Connections above [`Config::connections_max`] are closed as they come, and
//! at shutdown those under way get [`Config::stop_grace`] to finish their request.

use crate::gateway::Gateway;
use crate::timer::HttpTimer;
use crate::wire::{HEAD_BYTES_MAX, HEADERS_MAX, Verdicts, Watched};
use crate::{Config, Store};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

/// After accept has failed, usually for want of file descriptors: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves S3 on `listener` until `shutdown` completes and the requests under way are answered or
/// [`Config::stop_grace`] is over.
pub async fn serve<S: Store>(
    listener: TcpListener,
    store: Arc<S>,
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) {
    let connections_max = u32::try_from(config.connections_max).unwrap_or(u32::MAX);
    let connections = Arc::new(Semaphore::new(config.connections_max));
    let gateway = Arc::new(Gateway::new(store, config.clone()));
    let (stop, stopped) = watch::channel(false);
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            tracing::warn!(connections_max, "too many connections: one is closed");
            continue;
        };
        let (gateway, config, stopped) = (Arc::clone(&gateway), config.clone(), stopped.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(stream, gateway, &config, stopped).await {
                tracing::debug!(%error, "a connection ended badly");
            }
            drop(permit);
        });
    }
    drop(listener);
    stop.send_replace(true);
    if timeout(config.stop_grace, connections.acquire_many(connections_max)).await.is_err() {
        tracing::warn!("requests were still under way when the time to stop was over");
    }
}

async fn connection<S: Store>(
    stream: TcpStream,
    gateway: Arc<Gateway<S>>,
    config: &Config,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), hyper::Error> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "can't set TCP_NODELAY");
    }
    let verdicts = Verdicts::default();
    let io = TokioIo::new(Watched::new(stream, verdicts.clone(), config.write_timeout));
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (gateway, verdict) = (Arc::clone(&gateway), verdicts.next());
        async move {
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            Ok::<_, Infallible>(gateway.handle(request, verdict).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(HttpTimer)
        .header_read_timeout(config.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, service);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        done = connection.as_mut() => return done,
        _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    // Whoever has not finished by then is cut off, so that stopping takes a bounded time.
    tokio::select! {
        biased;
        done = connection.as_mut() => done,
        () = sleep(config.stop_grace) => Ok(()),
    }
}
