//! Upstream paths: an allow list of the paths and queries that may be sent to a provider, against path traversal.
//!
//! Only known paths and checked words reach the URL. URL parsers disagree about `\` and `..`, and the platform's key
//! gives access to more endpoints than the proxy serves.

use axum::http::Uri;
use berth_providers::request::RequestError;

use super::proxy_error::ProxyError;

/// The provider paths that are served. The models are below the last one.
const PATHS: [&str; 7] = [
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/v1/embeddings",
    MODELS,
];
const MODELS: &str = "/v1/models";
/// The longest name of a model, in bytes.
const MAX_NAME: usize = 200;
/// The most models in one page, at both providers.
const MAX_PAGE: u32 = 1000;

/// A path and a query that were checked and may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamPath {
    path: String,
    query: Option<String>,
}

impl UpstreamPath {
    /// Checks the URI of a request, which begins with the provider's name.
    ///
    /// # Errors
    /// `NoSuchPath` for an unknown path or an impossible model name; `InvalidRequest` for an invalid value in the
    /// query.
    pub fn from_uri(uri: &Uri) -> Result<Self, ProxyError> {
        let no_such = || ProxyError::NoSuchPath { path: format!("GET {}", uri.path()) };
        // The path after the provider's name.
        let path = uri.path().get(1..).and_then(|path| path.find('/').map(|end| &path[end..])).ok_or_else(no_such)?;
        let path = match PATHS.iter().find(|known| **known == path) {
            Some(known) => (*known).to_owned(),
            None => {
                // Compared without percent-decoding: a name that needs decoding is refused.
                let model = path.strip_prefix(MODELS).and_then(|rest| rest.strip_prefix('/'));
                format!("{MODELS}/{}", model.filter(|model| is_name(model)).ok_or_else(no_such)?)
            }
        };
        Ok(Self { path, query: query(uri.query().unwrap_or_default())? })
    }

    /// A path and query that the caller has checked as strictly.
    #[must_use]
    pub fn trusted(path: String, query: Option<String>) -> Self {
        Self { path, query }
    }

    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }
}

fn is_name(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:,".contains(&b));
    plain && (1..=MAX_NAME).contains(&text.len()) && text != "." && text != ".."
}

/// Keeps the known parameters of a query and drops all others.
fn query(query: &str) -> Result<Option<String>, ProxyError> {
    let mut pairs = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (field, is_right) = match name {
            "limit" => ("limit", value.parse().is_ok_and(|limit: u32| (1..=MAX_PAGE).contains(&limit))),
            "after_id" => ("after_id", is_name(value)),
            "before_id" => ("before_id", is_name(value)),
            "beta" => ("beta", value == "true" || value == "false"),
            // Dropped rather than refused, because SDKs add parameters that do not matter here.
            _ => continue,
        };
        if !is_right {
            let message = format!("{field}: is not a value that can be forwarded.");
            return Err(ProxyError::InvalidRequest(RequestError { field: Some(field), message }));
        }
        pairs.push(format!("{field}={value}"));
    }
    Ok((!pairs.is_empty()).then(|| pairs.join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> Option<String> {
        let target = UpstreamPath::from_uri(&uri.parse().unwrap()).ok()?;
        Some([target.path(), target.query().unwrap_or_default()].join(if target.query.is_some() { "?" } else { "" }))
    }

    #[test]
    fn only_a_plain_model_name_is_accepted_in_the_path() {
        for (uri, expected) in [
            ("/anthropic/v1/messages?beta=true", Some("/v1/messages?beta=true")),
            ("/openai/v1/models", Some("/v1/models")),
            ("/openai/v1/models/ft:gpt-4.1_x,y", Some("/v1/models/ft:gpt-4.1_x,y")),
            (r"/openai/v1/models/..\files", None),
            (r"/openai/v1/models/x\..\..\files", None),
            ("/openai/v1/models/..", None),
            ("/openai/v1/models/.", None),
            ("/openai/v1/models/%2e%2e%2ffiles", None),
            ("/openai/v1/models/%2e%2e", None),
            ("/openai/v1/models/a/b", None),
            ("/openai/v1/models/a;b", None),
            ("/openai/v1/models/", None),
            ("/openai/v1/files", None),
            ("/openai/v1/responses/input_tokens", Some("/v1/responses/input_tokens")),
            ("/openai/v1/responses/resp_1", None),
        ] {
            assert_eq!(read(uri).as_deref(), expected, "{uri}");
        }
        assert_eq!(read(&format!("/openai/v1/models/{}", "m".repeat(201))), None);
    }

    #[test]
    fn only_known_parameters_with_valid_values_are_forwarded() {
        for (query, expected) in [
            ("limit=1000&after_id=claude-1&x=1&store=true", Some("/v1/models?limit=1000&after_id=claude-1")),
            ("order=asc", Some("/v1/models")),
            ("", Some("/v1/models")),
            ("limit=0", None),
            ("limit=ten", None),
            ("before_id=a%26b", None),
            ("beta=maybe", None),
        ] {
            assert_eq!(read(&format!("/anthropic/v1/models?{query}")).as_deref(), expected, "{query}");
        }
    }
}
