//! The session with the coordinator: one task that dials it, again and again, and passes its messages to the owner of the data path.
//!
//! Channels: to the owner, bounded, so that a busy owner slows the stream down; from the owner, one bounded channel per stream.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use lime_proto::MAX_MESSAGE_BYTES;
use lime_proto::v1::agents_client::AgentsClient;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tracing::{debug, info, warn};

use crate::error::chain;
use crate::owner::FromSession;

/// Messages to the coordinator that may be in the stream's own queue.
const STREAM_QUEUE: usize = 64;
/// Without a sign of life for this long and [`KEEP_ALIVE_TIMEOUT`], the connection counts as dead.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a sign of life may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream that lived this long was a good one: the next attempt comes soon again.
const GOOD: Duration = Duration::from_secs(30);

/// Of repeated failures every so many is logged as a warning.
const SAY_AGAIN: u32 = 10;

/// Where the coordinator is.
///
/// # Errors
/// Not a URI.
pub fn endpoint(uri: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(uri.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// First and longest pauses; with jitter, so that a thousand agents do not come back at once.
fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(10))
        .without_max_times()
        .with_jitter()
        .build()
}

/// Keeps a stream to the coordinator until `stop`, or until the owner has gone.
pub async fn run(endpoint: Endpoint, owner: mpsc::Sender<FromSession>, stop: CancellationToken) {
    let mut pause = pauses();
    let mut failures = 0u32;
    loop {
        let started = Instant::now();
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = stream(&endpoint, &owner) => ended,
        };
        if owner.send(FromSession::Disconnected).await.is_err() {
            return;
        }
        if started.elapsed() > GOOD {
            pause = pauses();
            failures = 0;
        }
        let wait = pause.next().unwrap_or(CONNECT_TIMEOUT);
        match ended {
            Ended::ByCoordinator => info!("the coordinator has closed the stream; dialling again"),
            Ended::Failed(error) if !failures.is_multiple_of(SAY_AGAIN) => {
                failures += 1;
                debug!(failures, error, "still no connection to the coordinator");
            }
            Ended::Failed(error) => {
                failures += 1;
                warn!(failures, coordinator = %endpoint.uri(), error, "no connection to the coordinator; traffic goes on as it is");
            }
            Ended::OwnerGone => return,
        }
        debug!(?wait, "waiting");
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}

enum Ended {
    ByCoordinator,
    Failed(String),
    OwnerGone,
}

/// One stream, from dialling to its end.
async fn stream(endpoint: &Endpoint, owner: &mpsc::Sender<FromSession>) -> Ended {
    let channel: Channel = match endpoint.connect().await {
        Ok(channel) => channel,
        Err(error) => return Ended::Failed(chain(&error)),
    };
    let mut client = AgentsClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
    // The coordinator may answer the call only when it has heard the greeting, so that comes first.
    if owner.send(FromSession::Connected(sender)).await.is_err() {
        return Ended::OwnerGone;
    }
    let mut messages = match client.session(ReceiverStream::new(receiver)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Ended::Failed(chain(&status)),
    };
    loop {
        match messages.message().await {
            Ok(Some(message)) => {
                let Some(message) = message.message else {
                    warn!(
                        "the coordinator sent a message that this version does not know; ignored"
                    );
                    continue;
                };
                let message = FromSession::Message(Box::new(message));
                if owner.send(message).await.is_err() {
                    return Ended::OwnerGone;
                }
            }
            Ok(None) => return Ended::ByCoordinator,
            Err(status) => return Ended::Failed(chain(&status)),
        }
    }
}
