//! Error mapping: the Engine's errors as [`HostError`].

use std::time::Duration;

use bollard::errors::Error;
use tokio::time::timeout;

use crate::HostError;

impl From<Error> for HostError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => refusal(status_code, &message),
            Error::RequestTimeoutError => Self::Timeout,
            // The socket is gone, refuses, or broke off: the Engine is stopped or restarting.
            Error::SocketNotFoundError(_)
            | Error::HyperLegacyError { .. }
            | Error::HyperResponseError { .. }
            | Error::IOError { .. } => Self::Unreachable,
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Classifies an error response. The Engine's status codes give only classes; the kind must be parsed from its texts,
/// which have been stable since Docker 1.13.
fn refusal(status: u16, message: &str) -> HostError {
    let text = message.to_ascii_lowercase();
    if text.contains("no space left on device") || text.contains("disk quota exceeded") {
        HostError::DiskFull
    } else if status == 404 && text.contains("no such container") {
        HostError::NotFound
    } else if status == 404 && text.contains("no such image") {
        // The text is "No such image: NAME".
        let image = message.split_once(": ").map_or(message, |(_, image)| image);
        HostError::ImageMissing(image.to_owned())
    } else {
        HostError::Failed(format!("{message} ({status})"))
    }
}

/// Whether the Engine reports that the container, image, network or volume does not exist.
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

/// Whether the Engine reports that the name is taken or the object is in use.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 409, .. })
}

/// Runs `work` with a timeout of `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, HostError>>,
) -> Result<T, HostError> {
    timeout(limit, work).await.unwrap_or(Err(HostError::Timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_errors_are_classified() {
        for (status, message, ours) in [
            (404, "No such container: berth-1", HostError::NotFound),
            (404, "No such image: box:latest", HostError::ImageMissing("box:latest".into())),
            (500, "mkdir /var/lib/docker/overlay2/x: no space left on device", HostError::DiskFull),
            (404, "network berth0 not found", HostError::Failed("network berth0 not found (404)".into())),
        ] {
            assert_eq!(refusal(status, message), ours);
        }
    }
}
