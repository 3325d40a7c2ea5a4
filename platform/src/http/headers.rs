//! The headers of every page of ours: what the browser may load, where it may send, and who may look in.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::hosts::Hosts;

/// The headers of one of our sites.
#[derive(Clone)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    /// For the app host: forms go to itself only.
    #[must_use]
    pub fn app(hosts: &Hosts) -> Self {
        Self::new(hosts, "'self'")
    }

    /// For the apex, whose one form goes to the app host.
    #[must_use]
    pub fn apex(hosts: &Hosts) -> Self {
        Self::new(hosts, &hosts.app_origin())
    }

    fn new(hosts: &Hosts, form_action: &str) -> Self {
        let mut headers = Self::everywhere(form_action);
        // On localhost it would force https on every other program of this machine, with includeSubDomains for good.
        if hosts.apex != "localhost" && !hosts.apex.ends_with(".localhost") {
            headers.0.push(fixed("strict-transport-security", "max-age=31536000; includeSubDomains"));
        }
        headers
    }

    fn everywhere(form_action: &str) -> Self {
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             form-action {form_action}; base-uri 'none'; frame-ancestors 'none'; object-src 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'"
        );
        let policy = HeaderValue::from_str(&policy).expect("origins are header text");
        Self(vec![
            (header::CONTENT_SECURITY_POLICY, policy),
            fixed("x-content-type-options", "nosniff"),
            fixed("referrer-policy", "same-origin"),
            fixed("cross-origin-opener-policy", "same-origin"),
            fixed("cross-origin-resource-policy", "same-origin"),
            fixed("origin-agent-cluster", "?1"),
            fixed(
                "permissions-policy",
                "publickey-credentials-get=(self), publickey-credentials-create=(self), clipboard-write=(self), \
                 camera=(), microphone=(), geolocation=(), payment=(), usb=()",
            ),
        ])
    }

    /// Writes them onto a response. One that said nothing about caches is kept out of them.
    fn write(&self, response: &mut HeaderMap) {
        for (name, value) in &self.0 {
            response.insert(name.clone(), value.clone());
        }
        response.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
}

/// Adds them to a page of ours on an instance's host. It has no form, and whether that host is https for good is said by the apex.
#[must_use]
pub fn on_instance(mut response: Response) -> Response {
    Headers::everywhere("'none'").write(response.headers_mut());
    response
}

/// Adds them to whatever comes out of the router.
pub async fn add(State(headers): State<Headers>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    headers.write(response.headers_mut());
    response
}

fn fixed(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_static(value))
}
