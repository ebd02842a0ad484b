//! Connections to the lab's coordinator, made from within the core namespace.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};

use super::error::LabError;
use super::netns::Netns;

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A channel to `address` that connects (and, after the coordinator was restarted, connects again) from within `ns` when it is used.
pub fn channel(ns: &Netns, address: SocketAddr) -> Result<Channel, LabError> {
    let ns = ns.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let ns = ns.clone();
        async move {
            let stream = tokio::task::spawn_blocking(move || {
                ns.run(|| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT))
                    .and_then(|r| r)
            })
            .await
            .map_err(std::io::Error::other)??;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            tokio::net::TcpStream::from_std(stream).map(TokioIo::new)
        }
    });
    Ok(Endpoint::from_shared(format!("http://{address}"))?.connect_with_connector_lazy(connector))
}
