//! A connection to the coordinator that lets the recorder listen.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::transport;
use tower::Service;

use super::Recorder;
use super::messages::{Heard, code};
use super::requests::Call;

/// What the lab's clients speak through.
#[derive(Clone, Debug)]
pub struct Channel {
    inner: transport::Channel,
    recorder: Option<Arc<Recorder>>,
}

impl Channel {
    /// Without a recorder it is an ordinary one.
    pub fn new(inner: transport::Channel, recorder: Option<Arc<Recorder>>) -> Self {
        Self { inner, recorder }
    }
}

type Response = http::Response<Body>;

impl Service<http::Request<Body>> for Channel {
    type Response = Response;
    type Error = transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, transport::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), transport::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call = self
            .recorder
            .as_ref()
            .and_then(|r| Call::new(request.uri().path(), r.clone()));
        let Some(call) = call else {
            return Box::pin(self.inner.call(request));
        };
        let asking = call.asking();
        let request = request.map(|body| Body::new(Heard::new(body, asking)));
        let answer = self.inner.call(request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => {
                    let failed = code(response.headers());
                    let answering = call.answering();
                    if let Some(code) = failed {
                        call.failed(code);
                    }
                    Ok(response.map(|body| Body::new(Heard::new(body, answering))))
                }
                Err(error) => {
                    call.failed(tonic::Code::Unavailable);
                    Err(error)
                }
            }
        })
    }
}
