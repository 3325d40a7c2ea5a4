//! Where a call goes at its provider. Nothing that a caller wrote gets into the address but words that were checked:
//! URL parsers differ in what `\` and `..` mean, and the platform's key opens more than is served here.

use axum::http::Uri;

use super::proxy_error::Problem;
use berth_providers::request::RequestError;

/// The paths that are served, as the providers know them. Below the last one stand models.
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
/// Longer names are no model's.
const LONGEST_NAME: usize = 200;
/// The most models of one page, at both providers.
const LARGEST_PAGE: u32 = 1000;

/// A path and a query that may be sent; [`Target::read`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    path: String,
    query: Option<String>,
}

impl Target {
    /// What `uri` of a request asks for.
    ///
    /// # Errors
    /// `NoSuchPath`, also for the name of a model that none can have; `RequestError` for a query that is forwarded and
    /// cannot be.
    pub fn read(uri: &Uri) -> Result<Self, Problem> {
        let no_such = || Problem::NoSuchPath { path: format!("GET {}", uri.path()) };
        // Behind the provider's name.
        let path = uri.path().get(1..).and_then(|path| path.find('/').map(|end| &path[end..])).ok_or_else(no_such)?;
        let path = match PATHS.iter().find(|known| **known == path) {
            Some(known) => (*known).to_owned(),
            None => {
                // As it came, not decoded: what would have to be decoded is refused.
                let model = path.strip_prefix(MODELS).and_then(|rest| rest.strip_prefix('/'));
                format!("{MODELS}/{}", model.filter(|model| is_name(model)).ok_or_else(no_such)?)
            }
        };
        Ok(Self { path, query: query(uri.query().unwrap_or_default())? })
    }

    /// A path and a query that somebody else has checked as strictly.
    #[must_use]
    pub fn checked(path: String, query: Option<String>) -> Self {
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
    plain && (1..=LONGEST_NAME).contains(&text.len()) && text != "." && text != ".."
}

/// The pairs that mean something here; others are left out.
fn query(query: &str) -> Result<Option<String>, Problem> {
    let mut pairs = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (field, is_right) = match name {
            "limit" => ("limit", value.parse().is_ok_and(|limit: u32| (1..=LARGEST_PAGE).contains(&limit))),
            "after_id" => ("after_id", is_name(value)),
            "before_id" => ("before_id", is_name(value)),
            "beta" => ("beta", value == "true" || value == "false"),
            _ => continue,
        };
        if !is_right {
            let message = format!("{field}: is not a value that can be forwarded.");
            return Err(Problem::Unacceptable(RequestError { field: Some(field), message }));
        }
        pairs.push(format!("{field}={value}"));
    }
    Ok((!pairs.is_empty()).then(|| pairs.join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> Option<String> {
        let target = Target::read(&uri.parse().unwrap()).ok()?;
        Some([target.path(), target.query().unwrap_or_default()].join(if target.query.is_some() { "?" } else { "" }))
    }

    #[test]
    fn only_a_plain_name_of_a_model_gets_into_the_path() {
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
    fn only_a_known_query_with_a_sound_value_goes_on() {
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
