//! An in-process HTTP client that acts as a browser: it calls the routers directly without a network, keeps cookies,
//! sends Origin and Fetch Metadata headers, and follows no redirects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use berth::app::App;
use berth_containers::fake::FakeHost;
use berth_ground::clock::Clock;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::passkey_browser::{OneTimeCodeApp, PasskeyBrowser};
use crate::{Database, START};

pub const ORIGIN: &str = "https://app.example.com";

/// A platform on an empty database.
pub struct WebFixture {
    pub app: App,
    pub apex: Router,
    pub platform: Router,
    _database: Database,
}

impl WebFixture {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// A platform with other settings.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let database = crate::sqlite().await;
        let config = crate::config(&database, settings);
        let host = Arc::new(FakeHost::new(config.containers.clone(), Clock::system()));
        let app = App::open(config, Clock::manual(START), host).await.unwrap();
        let (apex, platform) = (berth::web::apex_router(app.clone()), berth::web::app_router(app.clone()));
        Self { app, apex, platform, _database: database }
    }

    /// A browser without cookies.
    pub fn visitor(&self) -> WebClient {
        WebClient::at_the(self.platform.clone(), self.app.clock.clone())
    }

    /// A browser that signed up with `handle`, page by page.
    pub async fn member(&self, handle: &str) -> WebClient {
        let mut visitor = self.visitor();
        visitor.sign_up(&format!("handle={handle}")).await;
        visitor
    }

    /// A browser that signed up by the operator's set-up link.
    pub async fn operator(&self, handle: &str) -> WebClient {
        let link = self.app.accounts.setup_link().await.unwrap();
        let mut visitor = self.visitor();
        visitor.sign_up(&format!("handle={handle}&set-up={}", link.reveal())).await;
        visitor
    }
}

/// A browser, with its passkeys and a code app.
#[derive(Clone)]
pub struct WebClient {
    router: Router,
    clock: Clock,
    ip: String,
    pub cookies: BTreeMap<String, String>,
    pub browser: PasskeyBrowser,
    pub code_app: Option<OneTimeCodeApp>,
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Option<Body>,
}

impl Answer {
    /// The status, and the target of a redirect: `303 /log-in`.
    pub fn in_short(&self) -> String {
        match self.header("location") {
            "" => self.status.as_u16().to_string(),
            location => format!("{} {location}", self.status.as_u16()),
        }
    }

    /// A header; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub async fn text(self) -> String {
        let bytes = to_bytes(self.body.unwrap(), 1 << 20).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// The first message of an event stream.
    pub async fn first_event(mut self) -> Value {
        let frame = self.body.as_mut().unwrap().frame().await.unwrap().unwrap().into_data().unwrap();
        let text = std::str::from_utf8(&frame).unwrap();
        serde_json::from_str(text.trim().strip_prefix("data: ").unwrap()).unwrap()
    }

    pub async fn json(self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }
}

impl WebClient {
    /// A browser that has never been at this platform, from an IP address of its own.
    pub fn of(app: &App) -> Self {
        Self::at_the(berth::web::app_router(app.clone()), app.clock.clone())
    }

    fn at_the(router: Router, clock: Clock) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0x0A00_0001);
        let ip = std::net::Ipv4Addr::from(NEXT.fetch_add(1, Ordering::Relaxed)).to_string();
        Self { router, clock, ip, cookies: BTreeMap::new(), browser: PasskeyBrowser::at_home(), code_app: None }
    }

    /// The same browser, with its cookies, at another router.
    pub fn at(&self, router: &Router) -> Self {
        Self { router: router.clone(), ..self.clone() }
    }

    /// Requests a page.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Self::request(Method::GET, path).header("accept", "text/html")).await
    }

    /// Sends a form.
    pub async fn post(&mut self, path: &str, form: &str) -> Answer {
        let request =
            Self::request(Method::POST, path).header("accept", "text/html").header("sec-fetch-site", "same-origin");
        let request = request.header("origin", ORIGIN).header("content-type", "application/x-www-form-urlencoded");
        self.send_body(request, Body::from(form.to_owned())).await
    }

    /// Sends JSON as a page's script does.
    pub async fn post_json(&mut self, path: &str, body: &Value) -> Answer {
        self.send_json(Method::POST, path, body).await
    }

    /// Sends JSON with any method.
    pub async fn send_json(&mut self, method: Method, path: &str, body: &Value) -> Answer {
        let request = Self::request(method, path).header("accept", "application/json");
        let request = request.header("sec-fetch-site", "same-origin").header("origin", ORIGIN);
        self.send_body(request.header("content-type", "application/json"), Body::from(body.to_string())).await
    }

    pub fn request(method: Method, path: &str) -> axum::http::request::Builder {
        Request::builder().method(method).uri(path).header("host", "app.example.com")
    }

    pub async fn send(&mut self, request: axum::http::request::Builder) -> Answer {
        self.send_body(request, Body::empty()).await
    }

    async fn send_body(&mut self, request: axum::http::request::Builder, body: Body) -> Answer {
        let jar: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = request.header("x-forwarded-for", &self.ip).body(body).unwrap();
        if !jar.is_empty() {
            request.headers_mut().insert(header::COOKIE, jar.join("; ").parse().unwrap());
        }
        let response = self.router.clone().oneshot(request).await.unwrap();
        for cookie in response.headers().get_all(header::SET_COOKIE) {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            if rest.contains("Max-Age=0;") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), rest.split(';').next().unwrap().to_owned());
            }
        }
        let (parts, body) = response.into_parts();
        Answer { status: parts.status, headers: parts.headers, body: Some(body) }
    }

    /// Signs up, through all pages.
    pub async fn sign_up(&mut self, form: &str) {
        assert_eq!(self.post("/sign-up", form).await.in_short(), "303 /sign-up/passkey");
        let options = self.post_json("/sign-up/passkey/challenge", &json!({})).await.json().await;
        let answer = self.browser.create(&options).await;
        let next = self.post_json("/sign-up/passkey", &answer).await.json().await;
        assert_eq!(next["next"], "/sign-up/code");
        self.read_secret().await;
        let code = format!("code={}", self.code_app.as_ref().unwrap().code(&self.clock));
        assert_eq!(self.post("/sign-up/code", &code).await.in_short(), "303 /sign-up/recovery-codes");
        assert_eq!(self.post("/sign-up/finish", "saved=yes").await.in_short(), "303 /welcome");
    }

    /// Sets up the code app with the secret on the page.
    pub async fn read_secret(&mut self) {
        let page = self.get("/sign-up/code").await.text().await;
        let secret = page.split("class=\"secret\">").nth(1).unwrap().split('<').next().unwrap().replace(' ', "");
        self.code_app = Some(OneTimeCodeApp::with(&secret));
    }

    /// Answers a passkey challenge, and returns the address of the next page.
    pub async fn present_passkey(&mut self, query: &str) -> String {
        let options = self.post_json("/log-in/challenge", &json!({})).await.json().await;
        let answer = self.browser.get(&options).await;
        let next = self.post_json(&format!("/log-in{query}"), &answer).await.json().await;
        next["next"].as_str().unwrap().to_owned()
    }

    /// A code of the code app that no log-in has used yet.
    pub fn fresh_code(&self) -> String {
        self.clock.advance(Duration::from_secs(30));
        self.code_app.as_ref().unwrap().code(&self.clock)
    }
}
