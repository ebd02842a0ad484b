//! Watching events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::stream;
use lime_proto::v1;
use tokio::sync::mpsc;
use tonic::Status;

use super::{LimeService, Out};
use crate::network::{QUEUE, Sink};

impl LimeService {
    pub(super) async fn watch_events(
        &self,
        request: v1::WatchEventsRequest,
    ) -> Result<Out<v1::ControllerEvent>, Status> {
        let switch = (!request.switch.is_empty()).then_some(request.switch);
        let (queue, receiver) = mpsc::channel(QUEUE);
        let overflow = Arc::new(AtomicBool::new(false));
        for network in self.selected(&request.network)? {
            let sink = Sink::Watcher {
                switch: switch.clone(),
                queue: queue.clone(),
                overflow: Arc::clone(&overflow),
            };
            let only = switch.clone().filter(|_| !request.network.is_empty());
            network
                .call(move |s| {
                    if let Some(only) = only {
                        s.switch(&only)?;
                    }
                    s.subscribe(sink);
                    Ok::<_, Status>(())
                })
                .await??;
        }
        Ok(Box::pin(until_overflow(
            receiver,
            overflow,
            self.shared.shutdown.clone(),
        )))
    }
}

/// What comes by the queue; when it was closed because it overflowed, that is said at the end.
pub(super) fn until_overflow<T: Send + 'static>(
    receiver: mpsc::Receiver<T>,
    overflow: Arc<AtomicBool>,
    shutdown: tokio_util::sync::CancellationToken,
) -> impl futures_util::Stream<Item = Result<T, Status>> + Send {
    stream::unfold(Some(receiver), move |receiver| {
        let (overflow, shutdown) = (Arc::clone(&overflow), shutdown.clone());
        async move {
            let mut receiver = receiver?;
            let next = tokio::select! {
                next = receiver.recv() => next,
                () = shutdown.cancelled() => {
                    return Some((Err(Status::unavailable("the coordinator is stopping")), None));
                }
            };
            match next {
                Some(item) => Some((Ok(item), Some(receiver))),
                None if overflow.load(Ordering::Relaxed) => {
                    let why =
                        "events came faster than they were read: some are lost, connect again";
                    Some((Err(Status::resource_exhausted(why)), None))
                }
                None => None,
            }
        }
    })
}
