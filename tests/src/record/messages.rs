//! Takes gRPC messages from bodies on their way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tonic::Code;

/// Longest message that is looked at, bytes; of a body with a longer one nothing is.
const LONGEST: usize = 64 << 20;
/// A message's compression flag and length.
const PREFIX: usize = 5;

/// Who listens to a body.
pub(super) trait Listener: Send + 'static {
    /// A message went by.
    fn message(&mut self, message: Bytes);
    /// The body has ended, a response with this code.
    fn end(&mut self, code: Option<Code>);
}

/// A body whose messages somebody listens to.
pub(super) struct Heard<L: Listener> {
    inner: tonic::body::Body,
    /// None: nobody listens any more.
    listener: Option<L>,
    buffer: BytesMut,
}

/// The code of a response, from its headers or trailers.
pub(super) fn code(headers: &HeaderMap) -> Option<Code> {
    let value = headers.get("grpc-status")?;
    Some(Code::from_bytes(value.as_bytes()))
}

impl<L: Listener> Heard<L> {
    pub(super) fn new(inner: tonic::body::Body, listener: L) -> Self {
        Self {
            inner,
            listener: Some(listener),
            buffer: BytesMut::new(),
        }
    }

    fn hear(&mut self, data: &Bytes) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        self.buffer.extend_from_slice(data);
        while let Some(prefix) = self.buffer.first_chunk::<PREFIX>() {
            let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            if length > LONGEST {
                self.listener = None;
                return;
            }
            if self.buffer.len() < PREFIX + length {
                return;
            }
            self.buffer.advance(PREFIX);
            listener.message(self.buffer.split_to(length).freeze());
        }
    }

    fn end(&mut self, code: Option<Code>) {
        if let Some(mut listener) = self.listener.take() {
            listener.end(code);
        }
    }
}

impl<L: Listener + Unpin> Body for Heard<L> {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let polled = ready!(Pin::new(&mut self.inner).poll_frame(context));
        match &polled {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.hear(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.end(code(trailers));
                }
            }
            Some(Err(status)) => self.end(Some(status.code())),
            None => self.end(None),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
