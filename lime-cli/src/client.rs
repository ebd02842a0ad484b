//! The connection to the coordinator.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use lime_proto::MAX_MESSAGE_BYTES;
use lime_proto::v1::lime_client::LimeClient;
use lime_proto::v1::statistics_client::StatisticsClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use crate::args::Global;
use crate::error::CliError;
use crate::output::Output;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a command works with.
pub struct Context {
    pub out: Output,
    url: String,
    timeout: Duration,
}

/// A client of the coordinator.
pub type Client = LimeClient<Channel>;

impl Context {
    pub fn new(global: &Global) -> Self {
        Self {
            out: Output::new(global.json),
            url: with_scheme(&global.coordinator),
            timeout: Duration::from_secs(global.timeout.into()),
        }
    }

    /// Connects. Commands check their arguments before.
    pub async fn connect(&self) -> Result<Client, CliError> {
        Ok(LimeClient::new(self.channel().await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// The same, for statistics.
    pub async fn statistics(&self) -> Result<StatisticsClient<Channel>, CliError> {
        Ok(StatisticsClient::new(self.channel().await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    async fn channel(&self) -> Result<Channel, CliError> {
        let unreachable = |reason: String| CliError::Unreachable {
            url: self.url.clone(),
            reason,
        };
        let endpoint = Endpoint::from_shared(self.url.clone())
            .map_err(|_| unreachable("that is no URL: write http://HOST:PORT".to_owned()))?
            .connect_timeout(CONNECT_TIMEOUT);
        endpoint
            .connect()
            .await
            .map_err(|e| unreachable(root_cause(&e)))
    }

    /// Waits for the answer to a call, as long as the user allows. `doing` names it in errors, as in "create network acme".
    pub async fn call<T>(
        &self,
        doing: impl Into<String>,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CliError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.explain(doing, status)),
            Err(_) => Err(self.timed_out(doing)),
        }
    }

    /// Waits for the next message of an answer that comes in parts, as long as the user allows. `None`: that was all.
    pub async fn next<T>(
        &self,
        doing: &str,
        stream: &mut Streaming<T>,
    ) -> Result<Option<T>, CliError> {
        match tokio::time::timeout(self.timeout, stream.message()).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(status)) => Err(self.explain(doing, status)),
            Err(_) => Err(self.timed_out(doing)),
        }
    }

    fn timed_out(&self, doing: impl Into<String>) -> CliError {
        CliError::TimedOut {
            doing: doing.into(),
            seconds: self.timeout.as_secs(),
        }
    }

    /// The error for a call's status: a lost connection, or the coordinator's refusal.
    pub fn explain(&self, doing: impl Into<String>, status: Status) -> CliError {
        match status.source() {
            Some(cause) => CliError::Unreachable {
                url: self.url.clone(),
                reason: root_cause(cause),
            },
            None => CliError::refused(doing, status),
        }
    }
}

fn with_scheme(url: &str) -> String {
    if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    }
}

/// The innermost error, which says what has happened; those around it say "transport error".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_lack_its_scheme() {
        assert_eq!(with_scheme("host:1"), "http://host:1");
        assert_eq!(with_scheme("https://host:1"), "https://host:1");
    }
}
