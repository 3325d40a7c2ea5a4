//! Security headers of every page: content security policy, HSTS, permissions and cross-origin isolation.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use berth_net::hosts::Hosts;

/// The security headers of one site.
#[derive(Clone)]
pub struct SecurityHeaders(Vec<(HeaderName, HeaderValue)>);

impl SecurityHeaders {
    /// For the app host: `form-action` allows the host itself only.
    #[must_use]
    pub fn app(hosts: &Hosts) -> Self {
        Self::new(hosts, "'self'")
    }

    /// For the apex: `form-action` allows the app host, to which its one form is sent.
    #[must_use]
    pub fn apex(hosts: &Hosts) -> Self {
        Self::new(hosts, &hosts.app_origin())
    }

    fn new(hosts: &Hosts, form_action: &str) -> Self {
        let mut headers = Self::everywhere(form_action);
        // On localhost HSTS would force https on every other local server, for a year and with every subdomain.
        if hosts.apex != "localhost" && !hosts.apex.ends_with(".localhost") {
            headers.0.push(fixed("strict-transport-security", "max-age=31536000; includeSubDomains"));
        }
        headers
    }

    fn everywhere(form_action: &str) -> Self {
        // `trusted-types 'none'` forbids every DOM sink that takes a string, so the scripts build elements only.
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
            // Same-site instances would otherwise share an agent cluster with us (document.domain, Spectre).
            fixed("origin-agent-cluster", "?1"),
            fixed(
                "permissions-policy",
                "publickey-credentials-get=(self), publickey-credentials-create=(self), clipboard-write=(self), \
                 camera=(), microphone=(), geolocation=(), payment=(), usb=()",
            ),
        ])
    }

    /// Sets the headers on a response. A response without Cache-Control must not be stored.
    fn write(&self, response: &mut HeaderMap) {
        for (name, value) in &self.0 {
            response.insert(name.clone(), value.clone());
        }
        // Handlers that allow caching set the header themselves; every other response may be private.
        response.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
}

/// Sets the headers on one of our pages on an instance's host. It has no forms, and HSTS for that host is set by the
/// apex (includeSubDomains).
#[must_use]
pub fn on_instance(mut response: Response) -> Response {
    SecurityHeaders::everywhere("'none'").write(response.headers_mut());
    response
}

/// Middleware that sets the headers on every response of a router.
pub async fn add(State(headers): State<SecurityHeaders>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    headers.write(response.headers_mut());
    response
}

fn fixed(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_static(value))
}
